"""The UIDs of SOP classes, of their well-known instances and of transfer syntaxes.

Written by tools/make_tables.py, never by hand.
"""

# From the UID dictionary of pydicom 3.0.2.

from __future__ import annotations

from dicomwire.registry.services import Service, SOPClass, define

Verification = define("1.2.840.10008.1.1", Service.VERIFICATION)

ComputedRadiographyImageStorage = define("1.2.840.10008.5.1.4.1.1.1", Service.STORAGE)
DigitalXRayImageStorageForPresentation = define("1.2.840.10008.5.1.4.1.1.1.1", Service.STORAGE)
DigitalXRayImageStorageForProcessing = define("1.2.840.10008.5.1.4.1.1.1.1.1", Service.STORAGE)
DigitalMammographyXRayImageStorageForPresentation = define(
    "1.2.840.10008.5.1.4.1.1.1.2", Service.STORAGE
)
DigitalMammographyXRayImageStorageForProcessing = define(
    "1.2.840.10008.5.1.4.1.1.1.2.1", Service.STORAGE
)
DigitalIntraOralXRayImageStorageForPresentation = define(
    "1.2.840.10008.5.1.4.1.1.1.3", Service.STORAGE
)
DigitalIntraOralXRayImageStorageForProcessing = define(
    "1.2.840.10008.5.1.4.1.1.1.3.1", Service.STORAGE
)
EncapsulatedPDFStorage = define("1.2.840.10008.5.1.4.1.1.104.1", Service.STORAGE)
EncapsulatedCDAStorage = define("1.2.840.10008.5.1.4.1.1.104.2", Service.STORAGE)
EncapsulatedSTLStorage = define("1.2.840.10008.5.1.4.1.1.104.3", Service.STORAGE)
EncapsulatedOBJStorage = define("1.2.840.10008.5.1.4.1.1.104.4", Service.STORAGE)
EncapsulatedMTLStorage = define("1.2.840.10008.5.1.4.1.1.104.5", Service.STORAGE)
GrayscaleSoftcopyPresentationStateStorage = define("1.2.840.10008.5.1.4.1.1.11.1", Service.STORAGE)
SegmentedVolumeRenderingVolumetricPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.11.10", Service.STORAGE
)
MultipleVolumeRenderingVolumetricPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.11.11", Service.STORAGE
)
VariableModalityLUTSoftcopyPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.11.12", Service.STORAGE
)
ColorSoftcopyPresentationStateStorage = define("1.2.840.10008.5.1.4.1.1.11.2", Service.STORAGE)
PseudoColorSoftcopyPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.11.3", Service.STORAGE
)
BlendingSoftcopyPresentationStateStorage = define("1.2.840.10008.5.1.4.1.1.11.4", Service.STORAGE)
XAXRFGrayscaleSoftcopyPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.11.5", Service.STORAGE
)
GrayscalePlanarMPRVolumetricPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.11.6", Service.STORAGE
)
CompositingPlanarMPRVolumetricPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.11.7", Service.STORAGE
)
AdvancedBlendingPresentationStateStorage = define("1.2.840.10008.5.1.4.1.1.11.8", Service.STORAGE)
VolumeRenderingVolumetricPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.11.9", Service.STORAGE
)
XRayAngiographicImageStorage = define("1.2.840.10008.5.1.4.1.1.12.1", Service.STORAGE)
EnhancedXAImageStorage = define("1.2.840.10008.5.1.4.1.1.12.1.1", Service.STORAGE)
XRayRadiofluoroscopicImageStorage = define("1.2.840.10008.5.1.4.1.1.12.2", Service.STORAGE)
EnhancedXRFImageStorage = define("1.2.840.10008.5.1.4.1.1.12.2.1", Service.STORAGE)
PositronEmissionTomographyImageStorage = define("1.2.840.10008.5.1.4.1.1.128", Service.STORAGE)
LegacyConvertedEnhancedPETImageStorage = define("1.2.840.10008.5.1.4.1.1.128.1", Service.STORAGE)
XRay3DAngiographicImageStorage = define("1.2.840.10008.5.1.4.1.1.13.1.1", Service.STORAGE)
XRay3DCraniofacialImageStorage = define("1.2.840.10008.5.1.4.1.1.13.1.2", Service.STORAGE)
BreastTomosynthesisImageStorage = define("1.2.840.10008.5.1.4.1.1.13.1.3", Service.STORAGE)
BreastProjectionXRayImageStorageForPresentation = define(
    "1.2.840.10008.5.1.4.1.1.13.1.4", Service.STORAGE
)
BreastProjectionXRayImageStorageForProcessing = define(
    "1.2.840.10008.5.1.4.1.1.13.1.5", Service.STORAGE
)
EnhancedPETImageStorage = define("1.2.840.10008.5.1.4.1.1.130", Service.STORAGE)
BasicStructuredDisplayStorage = define("1.2.840.10008.5.1.4.1.1.131", Service.STORAGE)
IntravascularOpticalCoherenceTomographyImageStorageForPresentation = define(
    "1.2.840.10008.5.1.4.1.1.14.1", Service.STORAGE
)
IntravascularOpticalCoherenceTomographyImageStorageForProcessing = define(
    "1.2.840.10008.5.1.4.1.1.14.2", Service.STORAGE
)
CTImageStorage = define("1.2.840.10008.5.1.4.1.1.2", Service.STORAGE)
EnhancedCTImageStorage = define("1.2.840.10008.5.1.4.1.1.2.1", Service.STORAGE)
LegacyConvertedEnhancedCTImageStorage = define("1.2.840.10008.5.1.4.1.1.2.2", Service.STORAGE)
NuclearMedicineImageStorage = define("1.2.840.10008.5.1.4.1.1.20", Service.STORAGE)
CTPerformedProcedureProtocolStorage = define("1.2.840.10008.5.1.4.1.1.200.2", Service.STORAGE)
XAPerformedProcedureProtocolStorage = define("1.2.840.10008.5.1.4.1.1.200.8", Service.STORAGE)
UltrasoundMultiFrameImageStorage = define("1.2.840.10008.5.1.4.1.1.3.1", Service.STORAGE)
ParametricMapStorage = define("1.2.840.10008.5.1.4.1.1.30", Service.STORAGE)
MRImageStorage = define("1.2.840.10008.5.1.4.1.1.4", Service.STORAGE)
EnhancedMRImageStorage = define("1.2.840.10008.5.1.4.1.1.4.1", Service.STORAGE)
MRSpectroscopyStorage = define("1.2.840.10008.5.1.4.1.1.4.2", Service.STORAGE)
EnhancedMRColorImageStorage = define("1.2.840.10008.5.1.4.1.1.4.3", Service.STORAGE)
LegacyConvertedEnhancedMRImageStorage = define("1.2.840.10008.5.1.4.1.1.4.4", Service.STORAGE)
RTImageStorage = define("1.2.840.10008.5.1.4.1.1.481.1", Service.STORAGE)
RTPhysicianIntentStorage = define("1.2.840.10008.5.1.4.1.1.481.10", Service.STORAGE)
RTSegmentAnnotationStorage = define("1.2.840.10008.5.1.4.1.1.481.11", Service.STORAGE)
RTRadiationSetStorage = define("1.2.840.10008.5.1.4.1.1.481.12", Service.STORAGE)
CArmPhotonElectronRadiationStorage = define("1.2.840.10008.5.1.4.1.1.481.13", Service.STORAGE)
TomotherapeuticRadiationStorage = define("1.2.840.10008.5.1.4.1.1.481.14", Service.STORAGE)
RoboticArmRadiationStorage = define("1.2.840.10008.5.1.4.1.1.481.15", Service.STORAGE)
RTRadiationRecordSetStorage = define("1.2.840.10008.5.1.4.1.1.481.16", Service.STORAGE)
RTRadiationSalvageRecordStorage = define("1.2.840.10008.5.1.4.1.1.481.17", Service.STORAGE)
TomotherapeuticRadiationRecordStorage = define("1.2.840.10008.5.1.4.1.1.481.18", Service.STORAGE)
CArmPhotonElectronRadiationRecordStorage = define("1.2.840.10008.5.1.4.1.1.481.19", Service.STORAGE)
RTDoseStorage = define("1.2.840.10008.5.1.4.1.1.481.2", Service.STORAGE)
RoboticRadiationRecordStorage = define("1.2.840.10008.5.1.4.1.1.481.20", Service.STORAGE)
RTRadiationSetDeliveryInstructionStorage = define("1.2.840.10008.5.1.4.1.1.481.21", Service.STORAGE)
RTTreatmentPreparationStorage = define("1.2.840.10008.5.1.4.1.1.481.22", Service.STORAGE)
EnhancedRTImageStorage = define("1.2.840.10008.5.1.4.1.1.481.23", Service.STORAGE)
EnhancedContinuousRTImageStorage = define("1.2.840.10008.5.1.4.1.1.481.24", Service.STORAGE)
RTPatientPositionAcquisitionInstructionStorage = define(
    "1.2.840.10008.5.1.4.1.1.481.25", Service.STORAGE
)
RTStructureSetStorage = define("1.2.840.10008.5.1.4.1.1.481.3", Service.STORAGE)
RTBeamsTreatmentRecordStorage = define("1.2.840.10008.5.1.4.1.1.481.4", Service.STORAGE)
RTPlanStorage = define("1.2.840.10008.5.1.4.1.1.481.5", Service.STORAGE)
RTBrachyTreatmentRecordStorage = define("1.2.840.10008.5.1.4.1.1.481.6", Service.STORAGE)
RTTreatmentSummaryRecordStorage = define("1.2.840.10008.5.1.4.1.1.481.7", Service.STORAGE)
RTIonPlanStorage = define("1.2.840.10008.5.1.4.1.1.481.8", Service.STORAGE)
RTIonBeamsTreatmentRecordStorage = define("1.2.840.10008.5.1.4.1.1.481.9", Service.STORAGE)
UltrasoundImageStorage = define("1.2.840.10008.5.1.4.1.1.6.1", Service.STORAGE)
EnhancedUSVolumeStorage = define("1.2.840.10008.5.1.4.1.1.6.2", Service.STORAGE)
PhotoacousticImageStorage = define("1.2.840.10008.5.1.4.1.1.6.3", Service.STORAGE)
RawDataStorage = define("1.2.840.10008.5.1.4.1.1.66", Service.STORAGE)
SpatialRegistrationStorage = define("1.2.840.10008.5.1.4.1.1.66.1", Service.STORAGE)
SpatialFiducialsStorage = define("1.2.840.10008.5.1.4.1.1.66.2", Service.STORAGE)
DeformableSpatialRegistrationStorage = define("1.2.840.10008.5.1.4.1.1.66.3", Service.STORAGE)
SegmentationStorage = define("1.2.840.10008.5.1.4.1.1.66.4", Service.STORAGE)
SurfaceSegmentationStorage = define("1.2.840.10008.5.1.4.1.1.66.5", Service.STORAGE)
TractographyResultsStorage = define("1.2.840.10008.5.1.4.1.1.66.6", Service.STORAGE)
LabelMapSegmentationStorage = define(
    "1.2.840.10008.5.1.4.1.1.66.7",
    Service.STORAGE,
    keyword="LabelMapSegmentationStorage",
    name="Label Map Segmentation Storage",
)
HeightMapSegmentationStorage = define(
    "1.2.840.10008.5.1.4.1.1.66.8",
    Service.STORAGE,
    keyword="HeightMapSegmentationStorage",
    name="Height Map Segmentation Storage",
)
RealWorldValueMappingStorage = define("1.2.840.10008.5.1.4.1.1.67", Service.STORAGE)
SurfaceScanMeshStorage = define("1.2.840.10008.5.1.4.1.1.68.1", Service.STORAGE)
SurfaceScanPointCloudStorage = define("1.2.840.10008.5.1.4.1.1.68.2", Service.STORAGE)
SecondaryCaptureImageStorage = define("1.2.840.10008.5.1.4.1.1.7", Service.STORAGE)
MultiFrameSingleBitSecondaryCaptureImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.7.1", Service.STORAGE
)
MultiFrameGrayscaleByteSecondaryCaptureImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.7.2", Service.STORAGE
)
MultiFrameGrayscaleWordSecondaryCaptureImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.7.3", Service.STORAGE
)
MultiFrameTrueColorSecondaryCaptureImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.7.4", Service.STORAGE
)
VLEndoscopicImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.1", Service.STORAGE)
VideoEndoscopicImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.1.1", Service.STORAGE)
VLMicroscopicImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.2", Service.STORAGE)
VideoMicroscopicImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.2.1", Service.STORAGE)
VLSlideCoordinatesMicroscopicImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.77.1.3", Service.STORAGE
)
VLPhotographicImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.4", Service.STORAGE)
VideoPhotographicImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.4.1", Service.STORAGE)
OphthalmicPhotography8BitImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.5.1", Service.STORAGE)
OphthalmicPhotography16BitImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.5.2", Service.STORAGE)
StereometricRelationshipStorage = define("1.2.840.10008.5.1.4.1.1.77.1.5.3", Service.STORAGE)
OphthalmicTomographyImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.5.4", Service.STORAGE)
WideFieldOphthalmicPhotographyStereographicProjectionImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.77.1.5.5", Service.STORAGE
)
WideFieldOphthalmicPhotography3DCoordinatesImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.77.1.5.6", Service.STORAGE
)
OphthalmicOpticalCoherenceTomographyEnFaceImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.77.1.5.7", Service.STORAGE
)
OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage = define(
    "1.2.840.10008.5.1.4.1.1.77.1.5.8", Service.STORAGE
)
VLWholeSlideMicroscopyImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.6", Service.STORAGE)
DermoscopicPhotographyImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.7", Service.STORAGE)
ConfocalMicroscopyImageStorage = define("1.2.840.10008.5.1.4.1.1.77.1.8", Service.STORAGE)
ConfocalMicroscopyTiledPyramidalImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.77.1.9", Service.STORAGE
)
LensometryMeasurementsStorage = define("1.2.840.10008.5.1.4.1.1.78.1", Service.STORAGE)
AutorefractionMeasurementsStorage = define("1.2.840.10008.5.1.4.1.1.78.2", Service.STORAGE)
KeratometryMeasurementsStorage = define("1.2.840.10008.5.1.4.1.1.78.3", Service.STORAGE)
SubjectiveRefractionMeasurementsStorage = define("1.2.840.10008.5.1.4.1.1.78.4", Service.STORAGE)
VisualAcuityMeasurementsStorage = define("1.2.840.10008.5.1.4.1.1.78.5", Service.STORAGE)
SpectaclePrescriptionReportStorage = define("1.2.840.10008.5.1.4.1.1.78.6", Service.STORAGE)
OphthalmicAxialMeasurementsStorage = define("1.2.840.10008.5.1.4.1.1.78.7", Service.STORAGE)
IntraocularLensCalculationsStorage = define("1.2.840.10008.5.1.4.1.1.78.8", Service.STORAGE)
MacularGridThicknessAndVolumeReportStorage = define("1.2.840.10008.5.1.4.1.1.79.1", Service.STORAGE)
OphthalmicVisualFieldStaticPerimetryMeasurementsStorage = define(
    "1.2.840.10008.5.1.4.1.1.80.1", Service.STORAGE
)
OphthalmicThicknessMapStorage = define("1.2.840.10008.5.1.4.1.1.81.1", Service.STORAGE)
CornealTopographyMapStorage = define("1.2.840.10008.5.1.4.1.1.82.1", Service.STORAGE)
BasicTextSRStorage = define("1.2.840.10008.5.1.4.1.1.88.11", Service.STORAGE)
EnhancedSRStorage = define("1.2.840.10008.5.1.4.1.1.88.22", Service.STORAGE)
ComprehensiveSRStorage = define("1.2.840.10008.5.1.4.1.1.88.33", Service.STORAGE)
Comprehensive3DSRStorage = define("1.2.840.10008.5.1.4.1.1.88.34", Service.STORAGE)
ExtensibleSRStorage = define("1.2.840.10008.5.1.4.1.1.88.35", Service.STORAGE)
ProcedureLogStorage = define("1.2.840.10008.5.1.4.1.1.88.40", Service.STORAGE)
MammographyCADSRStorage = define("1.2.840.10008.5.1.4.1.1.88.50", Service.STORAGE)
KeyObjectSelectionDocumentStorage = define("1.2.840.10008.5.1.4.1.1.88.59", Service.STORAGE)
ChestCADSRStorage = define("1.2.840.10008.5.1.4.1.1.88.65", Service.STORAGE)
XRayRadiationDoseSRStorage = define("1.2.840.10008.5.1.4.1.1.88.67", Service.STORAGE)
RadiopharmaceuticalRadiationDoseSRStorage = define("1.2.840.10008.5.1.4.1.1.88.68", Service.STORAGE)
ColonCADSRStorage = define("1.2.840.10008.5.1.4.1.1.88.69", Service.STORAGE)
ImplantationPlanSRStorage = define("1.2.840.10008.5.1.4.1.1.88.70", Service.STORAGE)
AcquisitionContextSRStorage = define("1.2.840.10008.5.1.4.1.1.88.71", Service.STORAGE)
SimplifiedAdultEchoSRStorage = define("1.2.840.10008.5.1.4.1.1.88.72", Service.STORAGE)
PatientRadiationDoseSRStorage = define("1.2.840.10008.5.1.4.1.1.88.73", Service.STORAGE)
PlannedImagingAgentAdministrationSRStorage = define(
    "1.2.840.10008.5.1.4.1.1.88.74", Service.STORAGE
)
PerformedImagingAgentAdministrationSRStorage = define(
    "1.2.840.10008.5.1.4.1.1.88.75", Service.STORAGE
)
EnhancedXRayRadiationDoseSRStorage = define("1.2.840.10008.5.1.4.1.1.88.76", Service.STORAGE)
WaveformAnnotationSRStorage = define("1.2.840.10008.5.1.4.1.1.88.77", Service.STORAGE)
TwelveLeadECGWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.1.1", Service.STORAGE)
GeneralECGWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.1.2", Service.STORAGE)
AmbulatoryECGWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.1.3", Service.STORAGE)
General32bitECGWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.1.4", Service.STORAGE)
WaveformPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.9.100.1",
    Service.STORAGE,
    keyword="WaveformPresentationStateStorage",
    name="Waveform Presentation State Storage",
)
WaveformAcquisitionPresentationStateStorage = define(
    "1.2.840.10008.5.1.4.1.1.9.100.2",
    Service.STORAGE,
    keyword="WaveformAcquisitionPresentationStateStorage",
    name="Waveform Acquisition Presentation State Storage",
)
HemodynamicWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.2.1", Service.STORAGE)
CardiacElectrophysiologyWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.3.1", Service.STORAGE)
BasicVoiceAudioWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.4.1", Service.STORAGE)
GeneralAudioWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.4.2", Service.STORAGE)
ArterialPulseWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.5.1", Service.STORAGE)
RespiratoryWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.6.1", Service.STORAGE)
MultichannelRespiratoryWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.6.2", Service.STORAGE)
RoutineScalpElectroencephalogramWaveformStorage = define(
    "1.2.840.10008.5.1.4.1.1.9.7.1", Service.STORAGE
)
ElectromyogramWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.7.2", Service.STORAGE)
ElectrooculogramWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.7.3", Service.STORAGE)
SleepElectroencephalogramWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.7.4", Service.STORAGE)
BodyPositionWaveformStorage = define("1.2.840.10008.5.1.4.1.1.9.8.1", Service.STORAGE)
ContentAssessmentResultsStorage = define("1.2.840.10008.5.1.4.1.1.90.1", Service.STORAGE)
MicroscopyBulkSimpleAnnotationsStorage = define("1.2.840.10008.5.1.4.1.1.91.1", Service.STORAGE)
RTBrachyApplicationSetupDeliveryInstructionStorage = define(
    "1.2.840.10008.5.1.4.34.10", Service.STORAGE
)
RTBeamsDeliveryInstructionStorage = define("1.2.840.10008.5.1.4.34.7", Service.STORAGE)

RepositoryQuery = define("1.2.840.10008.5.1.4.1.1.201.6", Service.QUERY_RETRIEVE, "C-FIND")
PatientRootQueryRetrieveInformationModelFind = define(
    "1.2.840.10008.5.1.4.1.2.1.1", Service.QUERY_RETRIEVE, "C-FIND"
)
PatientRootQueryRetrieveInformationModelMove = define(
    "1.2.840.10008.5.1.4.1.2.1.2", Service.QUERY_RETRIEVE, "C-MOVE"
)
PatientRootQueryRetrieveInformationModelGet = define(
    "1.2.840.10008.5.1.4.1.2.1.3", Service.QUERY_RETRIEVE, "C-GET"
)
StudyRootQueryRetrieveInformationModelFind = define(
    "1.2.840.10008.5.1.4.1.2.2.1", Service.QUERY_RETRIEVE, "C-FIND"
)
StudyRootQueryRetrieveInformationModelMove = define(
    "1.2.840.10008.5.1.4.1.2.2.2", Service.QUERY_RETRIEVE, "C-MOVE"
)
StudyRootQueryRetrieveInformationModelGet = define(
    "1.2.840.10008.5.1.4.1.2.2.3", Service.QUERY_RETRIEVE, "C-GET"
)
PatientStudyOnlyQueryRetrieveInformationModelFind = define(
    "1.2.840.10008.5.1.4.1.2.3.1", Service.QUERY_RETRIEVE, "C-FIND"
)
PatientStudyOnlyQueryRetrieveInformationModelMove = define(
    "1.2.840.10008.5.1.4.1.2.3.2", Service.QUERY_RETRIEVE, "C-MOVE"
)
PatientStudyOnlyQueryRetrieveInformationModelGet = define(
    "1.2.840.10008.5.1.4.1.2.3.3", Service.QUERY_RETRIEVE, "C-GET"
)
CompositeInstanceRootRetrieveMove = define(
    "1.2.840.10008.5.1.4.1.2.4.2", Service.QUERY_RETRIEVE, "C-MOVE"
)
CompositeInstanceRootRetrieveGet = define(
    "1.2.840.10008.5.1.4.1.2.4.3", Service.QUERY_RETRIEVE, "C-GET"
)
CompositeInstanceRetrieveWithoutBulkDataGet = define(
    "1.2.840.10008.5.1.4.1.2.5.3", Service.QUERY_RETRIEVE, "C-GET"
)

ModalityPerformedProcedureStep = define("1.2.840.10008.3.1.2.3.3", Service.PROCEDURE_STEP)
ModalityPerformedProcedureStepRetrieve = define("1.2.840.10008.3.1.2.3.4", Service.PROCEDURE_STEP)
ModalityPerformedProcedureStepNotification = define(
    "1.2.840.10008.3.1.2.3.5", Service.PROCEDURE_STEP
)

BasicFilmSession = define("1.2.840.10008.5.1.1.1", Service.PRINT_MANAGEMENT)
PrintJob = define("1.2.840.10008.5.1.1.14", Service.PRINT_MANAGEMENT)
BasicAnnotationBox = define("1.2.840.10008.5.1.1.15", Service.PRINT_MANAGEMENT)
Printer = define("1.2.840.10008.5.1.1.16", Service.PRINT_MANAGEMENT)
PrinterConfigurationRetrieval = define("1.2.840.10008.5.1.1.16.376", Service.PRINT_MANAGEMENT)
BasicColorPrintManagementMeta = define("1.2.840.10008.5.1.1.18", Service.PRINT_MANAGEMENT)
BasicFilmBox = define("1.2.840.10008.5.1.1.2", Service.PRINT_MANAGEMENT)
PresentationLUT = define("1.2.840.10008.5.1.1.23", Service.PRINT_MANAGEMENT)
BasicGrayscaleImageBox = define("1.2.840.10008.5.1.1.4", Service.PRINT_MANAGEMENT)
BasicColorImageBox = define("1.2.840.10008.5.1.1.4.1", Service.PRINT_MANAGEMENT)
BasicGrayscalePrintManagementMeta = define("1.2.840.10008.5.1.1.9", Service.PRINT_MANAGEMENT)

MediaStorageDirectoryStorage = define("1.2.840.10008.1.3.10", Service.MEDIA_STORAGE)

StorageCommitmentPushModel = define("1.2.840.10008.1.20.1", Service.STORAGE_COMMITMENT)

ModalityWorklistInformationModelFind = define(
    "1.2.840.10008.5.1.4.31", Service.BASIC_WORKLIST, "C-FIND"
)

ProceduralEventLogging = define("1.2.840.10008.1.40", Service.APPLICATION_EVENT_LOGGING)
SubstanceAdministrationLogging = define("1.2.840.10008.1.42", Service.APPLICATION_EVENT_LOGGING)

GeneralRelevantPatientInformationQuery = define(
    "1.2.840.10008.5.1.4.37.1", Service.RELEVANT_PATIENT, "C-FIND"
)
BreastImagingRelevantPatientInformationQuery = define(
    "1.2.840.10008.5.1.4.37.2", Service.RELEVANT_PATIENT, "C-FIND"
)
CardiacRelevantPatientInformationQuery = define(
    "1.2.840.10008.5.1.4.37.3", Service.RELEVANT_PATIENT, "C-FIND"
)

InstanceAvailabilityNotification = define("1.2.840.10008.5.1.4.33", Service.INSTANCE_AVAILABILITY)

MediaCreationManagement = define("1.2.840.10008.5.1.1.33", Service.MEDIA_CREATION)

HangingProtocolInformationModelFind = define(
    "1.2.840.10008.5.1.4.38.2", Service.HANGING_PROTOCOL, "C-FIND"
)
HangingProtocolInformationModelMove = define(
    "1.2.840.10008.5.1.4.38.3", Service.HANGING_PROTOCOL, "C-MOVE"
)
HangingProtocolInformationModelGet = define(
    "1.2.840.10008.5.1.4.38.4", Service.HANGING_PROTOCOL, "C-GET"
)

ProductCharacteristicsQuery = define(
    "1.2.840.10008.5.1.4.41", Service.SUBSTANCE_ADMINISTRATION, "C-FIND"
)
SubstanceApprovalQuery = define(
    "1.2.840.10008.5.1.4.42", Service.SUBSTANCE_ADMINISTRATION, "C-FIND"
)

ColorPaletteQueryRetrieveInformationModelFind = define(
    "1.2.840.10008.5.1.4.39.2", Service.COLOR_PALETTE, "C-FIND"
)
ColorPaletteQueryRetrieveInformationModelMove = define(
    "1.2.840.10008.5.1.4.39.3", Service.COLOR_PALETTE, "C-MOVE"
)
ColorPaletteQueryRetrieveInformationModelGet = define(
    "1.2.840.10008.5.1.4.39.4", Service.COLOR_PALETTE, "C-GET"
)

GenericImplantTemplateInformationModelFind = define(
    "1.2.840.10008.5.1.4.43.2", Service.IMPLANT_TEMPLATE, "C-FIND"
)
GenericImplantTemplateInformationModelMove = define(
    "1.2.840.10008.5.1.4.43.3", Service.IMPLANT_TEMPLATE, "C-MOVE"
)
GenericImplantTemplateInformationModelGet = define(
    "1.2.840.10008.5.1.4.43.4", Service.IMPLANT_TEMPLATE, "C-GET"
)
ImplantAssemblyTemplateInformationModelFind = define(
    "1.2.840.10008.5.1.4.44.2", Service.IMPLANT_TEMPLATE, "C-FIND"
)
ImplantAssemblyTemplateInformationModelMove = define(
    "1.2.840.10008.5.1.4.44.3", Service.IMPLANT_TEMPLATE, "C-MOVE"
)
ImplantAssemblyTemplateInformationModelGet = define(
    "1.2.840.10008.5.1.4.44.4", Service.IMPLANT_TEMPLATE, "C-GET"
)
ImplantTemplateGroupInformationModelFind = define(
    "1.2.840.10008.5.1.4.45.2", Service.IMPLANT_TEMPLATE, "C-FIND"
)
ImplantTemplateGroupInformationModelMove = define(
    "1.2.840.10008.5.1.4.45.3", Service.IMPLANT_TEMPLATE, "C-MOVE"
)
ImplantTemplateGroupInformationModelGet = define(
    "1.2.840.10008.5.1.4.45.4", Service.IMPLANT_TEMPLATE, "C-GET"
)

UnifiedProcedureStepPush = define("1.2.840.10008.5.1.4.34.6.1", Service.UNIFIED_PROCEDURE_STEP)
UnifiedProcedureStepWatch = define("1.2.840.10008.5.1.4.34.6.2", Service.UNIFIED_PROCEDURE_STEP)
UnifiedProcedureStepPull = define("1.2.840.10008.5.1.4.34.6.3", Service.UNIFIED_PROCEDURE_STEP)
UnifiedProcedureStepEvent = define("1.2.840.10008.5.1.4.34.6.4", Service.UNIFIED_PROCEDURE_STEP)
UnifiedProcedureStepQuery = define("1.2.840.10008.5.1.4.34.6.5", Service.UNIFIED_PROCEDURE_STEP)

RTConventionalMachineVerification = define(
    "1.2.840.10008.5.1.4.34.8", Service.RT_MACHINE_VERIFICATION
)
RTIonMachineVerification = define("1.2.840.10008.5.1.4.34.9", Service.RT_MACHINE_VERIFICATION)

DisplaySystem = define("1.2.840.10008.5.1.1.40", Service.DISPLAY_SYSTEM)

CTDefinedProcedureProtocolStorage = define(
    "1.2.840.10008.5.1.4.1.1.200.1", Service.NON_PATIENT_OBJECT_STORAGE
)
ProtocolApprovalStorage = define(
    "1.2.840.10008.5.1.4.1.1.200.3", Service.NON_PATIENT_OBJECT_STORAGE
)
XADefinedProcedureProtocolStorage = define(
    "1.2.840.10008.5.1.4.1.1.200.7", Service.NON_PATIENT_OBJECT_STORAGE
)
InventoryStorage = define("1.2.840.10008.5.1.4.1.1.201.1", Service.NON_PATIENT_OBJECT_STORAGE)
HangingProtocolStorage = define("1.2.840.10008.5.1.4.38.1", Service.NON_PATIENT_OBJECT_STORAGE)
ColorPaletteStorage = define("1.2.840.10008.5.1.4.39.1", Service.NON_PATIENT_OBJECT_STORAGE)
GenericImplantTemplateStorage = define(
    "1.2.840.10008.5.1.4.43.1", Service.NON_PATIENT_OBJECT_STORAGE
)
ImplantAssemblyTemplateStorage = define(
    "1.2.840.10008.5.1.4.44.1", Service.NON_PATIENT_OBJECT_STORAGE
)
ImplantTemplateGroupStorage = define("1.2.840.10008.5.1.4.45.1", Service.NON_PATIENT_OBJECT_STORAGE)

DefinedProcedureProtocolInformationModelFind = define(
    "1.2.840.10008.5.1.4.20.1", Service.DEFINED_PROCEDURE_PROTOCOL, "C-FIND"
)
DefinedProcedureProtocolInformationModelMove = define(
    "1.2.840.10008.5.1.4.20.2", Service.DEFINED_PROCEDURE_PROTOCOL, "C-MOVE"
)
DefinedProcedureProtocolInformationModelGet = define(
    "1.2.840.10008.5.1.4.20.3", Service.DEFINED_PROCEDURE_PROTOCOL, "C-GET"
)

ProtocolApprovalInformationModelFind = define(
    "1.2.840.10008.5.1.4.1.1.200.4", Service.PROTOCOL_APPROVAL, "C-FIND"
)
ProtocolApprovalInformationModelMove = define(
    "1.2.840.10008.5.1.4.1.1.200.5", Service.PROTOCOL_APPROVAL, "C-MOVE"
)
ProtocolApprovalInformationModelGet = define(
    "1.2.840.10008.5.1.4.1.1.200.6", Service.PROTOCOL_APPROVAL, "C-GET"
)

InventoryFind = define("1.2.840.10008.5.1.4.1.1.201.2", Service.INVENTORY, "C-FIND")
InventoryMove = define("1.2.840.10008.5.1.4.1.1.201.3", Service.INVENTORY, "C-MOVE")
InventoryGet = define("1.2.840.10008.5.1.4.1.1.201.4", Service.INVENTORY, "C-GET")

InventoryCreation = define("1.2.840.10008.5.1.4.1.1.201.5", Service.STORAGE_MANAGEMENT)

# Retired; older devices still send them.
StoredPrintStorage = define("1.2.840.10008.5.1.1.27", Service.STORAGE, is_legacy=True)
HardcopyGrayscaleImageStorage = define("1.2.840.10008.5.1.1.29", Service.STORAGE, is_legacy=True)
HardcopyColorImageStorage = define("1.2.840.10008.5.1.1.30", Service.STORAGE, is_legacy=True)
StandaloneModalityLUTStorage = define("1.2.840.10008.5.1.4.1.1.10", Service.STORAGE, is_legacy=True)
StandaloneVOILUTStorage = define("1.2.840.10008.5.1.4.1.1.11", Service.STORAGE, is_legacy=True)
XRayAngiographicBiPlaneImageStorage = define(
    "1.2.840.10008.5.1.4.1.1.12.3", Service.STORAGE, is_legacy=True
)
StandalonePETCurveStorage = define("1.2.840.10008.5.1.4.1.1.129", Service.STORAGE, is_legacy=True)
UltrasoundMultiFrameImageStorageRetired = define(
    "1.2.840.10008.5.1.4.1.1.3", Service.STORAGE, is_legacy=True
)
NuclearMedicineImageStorageRetired = define(
    "1.2.840.10008.5.1.4.1.1.5", Service.STORAGE, is_legacy=True
)
UltrasoundImageStorageRetired = define("1.2.840.10008.5.1.4.1.1.6", Service.STORAGE, is_legacy=True)
VLImageStorageTrial = define("1.2.840.10008.5.1.4.1.1.77.1", Service.STORAGE, is_legacy=True)
VLMultiFrameImageStorageTrial = define(
    "1.2.840.10008.5.1.4.1.1.77.2", Service.STORAGE, is_legacy=True
)
StandaloneOverlayStorage = define("1.2.840.10008.5.1.4.1.1.8", Service.STORAGE, is_legacy=True)
StandaloneCurveStorage = define("1.2.840.10008.5.1.4.1.1.9", Service.STORAGE, is_legacy=True)

# The keywords that users of pynetdicom know.
ColorPaletteInformationModelFind = ColorPaletteQueryRetrieveInformationModelFind
ColorPaletteInformationModelGet = ColorPaletteQueryRetrieveInformationModelGet
ColorPaletteInformationModelMove = ColorPaletteQueryRetrieveInformationModelMove
ModalityWorklistInformationFind = ModalityWorklistInformationModelFind
OphthlamicOpticalCoherenceTomographyBscanVolumeAnalysisStorage = (
    OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage
)
PseudoColorSoftcopyPresentationStageStorage = PseudoColorSoftcopyPresentationStateStorage
RoboticArmRadiationRecordStorage = RoboticRadiationRecordStorage
RTBrachyApplicationSetupDeliveryInstructionsStorage = (
    RTBrachyApplicationSetupDeliveryInstructionStorage
)
VariableModalityLUTSoftcopyPresentationStageStorage = (
    VariableModalityLUTSoftcopyPresentationStateStorage
)

StorageCommitmentPushModelInstance = "1.2.840.10008.1.20.1.1"
ProceduralEventLoggingInstance = "1.2.840.10008.1.40.1"
SubstanceAdministrationLoggingInstance = "1.2.840.10008.1.42.1"
PrinterInstance = "1.2.840.10008.5.1.1.17"
PrinterConfigurationRetrievalInstance = "1.2.840.10008.5.1.1.17.376"
DisplaySystemInstance = "1.2.840.10008.5.1.1.40.1"
StorageManagementInstance = "1.2.840.10008.5.1.4.1.1.201.1.1"
UPSGlobalSubscriptionInstance = "1.2.840.10008.5.1.4.34.5"
UPSFilteredGlobalSubscriptionInstance = "1.2.840.10008.5.1.4.34.5.1"

CONTEXT_LISTS: dict[str, tuple[SOPClass, ...]] = {
    "AllStoragePresentationContexts": Service.STORAGE.sop_classes,
    "ApplicationEventLoggingPresentationContexts": Service.APPLICATION_EVENT_LOGGING.sop_classes,
    "BasicWorklistManagementPresentationContexts": Service.BASIC_WORKLIST.sop_classes,
    "ColorPalettePresentationContexts": Service.COLOR_PALETTE.sop_classes,
    "DefinedProcedureProtocolPresentationContexts": Service.DEFINED_PROCEDURE_PROTOCOL.sop_classes,
    "DisplaySystemPresentationContexts": Service.DISPLAY_SYSTEM.sop_classes,
    "HangingProtocolPresentationContexts": Service.HANGING_PROTOCOL.sop_classes,
    "ImplantTemplatePresentationContexts": Service.IMPLANT_TEMPLATE.sop_classes,
    "InstanceAvailabilityPresentationContexts": Service.INSTANCE_AVAILABILITY.sop_classes,
    "MediaCreationManagementPresentationContexts": Service.MEDIA_CREATION.sop_classes,
    "MediaStoragePresentationContexts": Service.MEDIA_STORAGE.sop_classes,
    "ModalityPerformedPresentationContexts": Service.PROCEDURE_STEP.sop_classes,
    "NonPatientObjectPresentationContexts": Service.NON_PATIENT_OBJECT_STORAGE.sop_classes,
    "PrintManagementPresentationContexts": Service.PRINT_MANAGEMENT.sop_classes,
    "ProcedureStepPresentationContexts": Service.PROCEDURE_STEP.sop_classes,
    "ProtocolApprovalPresentationContexts": Service.PROTOCOL_APPROVAL.sop_classes,
    "QueryRetrievePresentationContexts": Service.QUERY_RETRIEVE.sop_classes,
    "RTMachineVerificationPresentationContexts": Service.RT_MACHINE_VERIFICATION.sop_classes,
    "RelevantPatientInformationPresentationContexts": Service.RELEVANT_PATIENT.sop_classes,
    "StorageCommitmentPresentationContexts": Service.STORAGE_COMMITMENT.sop_classes,
    "SubstanceAdministrationPresentationContexts": Service.SUBSTANCE_ADMINISTRATION.sop_classes,
    "UnifiedProcedurePresentationContexts": Service.UNIFIED_PROCEDURE_STEP.sop_classes,
    "VerificationPresentationContexts": Service.VERIFICATION.sop_classes,
    "StoragePresentationContexts": (
        StoredPrintStorage,
        HardcopyGrayscaleImageStorage,
        HardcopyColorImageStorage,
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        DigitalMammographyXRayImageStorageForPresentation,
        DigitalMammographyXRayImageStorageForProcessing,
        DigitalIntraOralXRayImageStorageForPresentation,
        DigitalIntraOralXRayImageStorageForProcessing,
        StandaloneModalityLUTStorage,
        EncapsulatedPDFStorage,
        EncapsulatedCDAStorage,
        StandaloneVOILUTStorage,
        GrayscaleSoftcopyPresentationStateStorage,
        ColorSoftcopyPresentationStateStorage,
        PseudoColorSoftcopyPresentationStateStorage,
        BlendingSoftcopyPresentationStateStorage,
        XAXRFGrayscaleSoftcopyPresentationStateStorage,
        XRayAngiographicImageStorage,
        EnhancedXAImageStorage,
        XRayRadiofluoroscopicImageStorage,
        EnhancedXRFImageStorage,
        XRayAngiographicBiPlaneImageStorage,
        PositronEmissionTomographyImageStorage,
        LegacyConvertedEnhancedPETImageStorage,
        StandalonePETCurveStorage,
        XRay3DAngiographicImageStorage,
        XRay3DCraniofacialImageStorage,
        BreastTomosynthesisImageStorage,
        EnhancedPETImageStorage,
        BasicStructuredDisplayStorage,
        IntravascularOpticalCoherenceTomographyImageStorageForPresentation,
        IntravascularOpticalCoherenceTomographyImageStorageForProcessing,
        CTImageStorage,
        EnhancedCTImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        NuclearMedicineImageStorage,
        UltrasoundMultiFrameImageStorageRetired,
        UltrasoundMultiFrameImageStorage,
        MRImageStorage,
        EnhancedMRImageStorage,
        MRSpectroscopyStorage,
        EnhancedMRColorImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
        RTImageStorage,
        RTDoseStorage,
        RTStructureSetStorage,
        RTBeamsTreatmentRecordStorage,
        RTPlanStorage,
        RTBrachyTreatmentRecordStorage,
        RTTreatmentSummaryRecordStorage,
        RTIonPlanStorage,
        RTIonBeamsTreatmentRecordStorage,
        NuclearMedicineImageStorageRetired,
        UltrasoundImageStorageRetired,
        UltrasoundImageStorage,
        EnhancedUSVolumeStorage,
        RawDataStorage,
        SpatialRegistrationStorage,
        SpatialFiducialsStorage,
        DeformableSpatialRegistrationStorage,
        SegmentationStorage,
        SurfaceSegmentationStorage,
        RealWorldValueMappingStorage,
        SurfaceScanMeshStorage,
        SurfaceScanPointCloudStorage,
        SecondaryCaptureImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
        VLImageStorageTrial,
        VLEndoscopicImageStorage,
        VideoEndoscopicImageStorage,
        VLMicroscopicImageStorage,
        VideoMicroscopicImageStorage,
        VLSlideCoordinatesMicroscopicImageStorage,
        VLPhotographicImageStorage,
        VideoPhotographicImageStorage,
        OphthalmicPhotography8BitImageStorage,
        OphthalmicPhotography16BitImageStorage,
        StereometricRelationshipStorage,
        OphthalmicTomographyImageStorage,
        VLWholeSlideMicroscopyImageStorage,
        VLMultiFrameImageStorageTrial,
        LensometryMeasurementsStorage,
        AutorefractionMeasurementsStorage,
        KeratometryMeasurementsStorage,
        SubjectiveRefractionMeasurementsStorage,
        VisualAcuityMeasurementsStorage,
        SpectaclePrescriptionReportStorage,
        OphthalmicAxialMeasurementsStorage,
        IntraocularLensCalculationsStorage,
        MacularGridThicknessAndVolumeReportStorage,
        StandaloneOverlayStorage,
        OphthalmicVisualFieldStaticPerimetryMeasurementsStorage,
        OphthalmicThicknessMapStorage,
        BasicTextSRStorage,
        EnhancedSRStorage,
        ComprehensiveSRStorage,
        Comprehensive3DSRStorage,
        ProcedureLogStorage,
        MammographyCADSRStorage,
        KeyObjectSelectionDocumentStorage,
        ChestCADSRStorage,
        XRayRadiationDoseSRStorage,
        ColonCADSRStorage,
        ImplantationPlanSRStorage,
        StandaloneCurveStorage,
        TwelveLeadECGWaveformStorage,
        GeneralECGWaveformStorage,
        AmbulatoryECGWaveformStorage,
        HemodynamicWaveformStorage,
        CardiacElectrophysiologyWaveformStorage,
        BasicVoiceAudioWaveformStorage,
        GeneralAudioWaveformStorage,
        ArterialPulseWaveformStorage,
        RespiratoryWaveformStorage,
        RTBeamsDeliveryInstructionStorage,
    ),
}
"""The SOP classes of each list of presentation contexts, in the order of their UIDs."""

DEFAULT_TRANSFER_SYNTAXES = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
]

ALL_TRANSFER_SYNTAXES = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.92",
    "1.2.840.10008.1.2.4.93",
    "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.95",
    "1.2.840.10008.1.2.4.100",
    "1.2.840.10008.1.2.4.100.1",
    "1.2.840.10008.1.2.4.101",
    "1.2.840.10008.1.2.4.101.1",
    "1.2.840.10008.1.2.4.102",
    "1.2.840.10008.1.2.4.102.1",
    "1.2.840.10008.1.2.4.103",
    "1.2.840.10008.1.2.4.103.1",
    "1.2.840.10008.1.2.4.104",
    "1.2.840.10008.1.2.4.104.1",
    "1.2.840.10008.1.2.4.105",
    "1.2.840.10008.1.2.4.105.1",
    "1.2.840.10008.1.2.4.106",
    "1.2.840.10008.1.2.4.106.1",
    "1.2.840.10008.1.2.4.107",
    "1.2.840.10008.1.2.4.108",
    "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.4.111",
    "1.2.840.10008.1.2.4.112",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.4.204",
    "1.2.840.10008.1.2.4.205",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.7.1",
    "1.2.840.10008.1.2.7.2",
    "1.2.840.10008.1.2.7.3",
    "1.2.840.10008.1.2.8.1",
]
