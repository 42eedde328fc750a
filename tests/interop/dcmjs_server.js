// Serves with dcmjs-dimse: node dcmjs_server.js LIBRARY FOLDER PORT
// Verification, Storage into FOLDER, and two matches for each query.
'use strict';

const path = require('path');
const [library, folder, port] = process.argv.slice(2);
const { Dataset, Scp, Server } = require(library);
const { CEchoResponse, CFindResponse, CStoreResponse } = require(library).responses;
const { PresentationContextResult, Status, TransferSyntax } = require(library).constants;

const SYNTAXES = [TransferSyntax.ExplicitVRLittleEndian, TransferSyntax.ImplicitVRLittleEndian];

class Service extends Scp {
  associationRequested(association) {
    for (const { id } of association.getPresentationContexts()) {
      const context = association.getPresentationContext(id);
      const syntax = SYNTAXES.find((each) => context.getTransferSyntaxUids().includes(each));
      if (syntax) {
        context.setResult(PresentationContextResult.Accept, syntax);
      } else {
        context.setResult(PresentationContextResult.RejectTransferSyntaxesNotSupported);
      }
    }
    this.sendAssociationAccept();
  }

  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }

  cEchoRequest(request, callback) {
    const response = CEchoResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }

  cStoreRequest(request, callback) {
    const dataset = request.getDataset();
    dataset.toFile(path.join(folder, `${dataset.getElement('SOPInstanceUID')}.dcm`));
    const response = CStoreResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }

  cFindRequest(request, callback) {
    const PatientID = request.getDataset().getElement('PatientID');
    const responses = ['Doe^Jane', 'Doe^John'].map((PatientName) => {
      const response = CFindResponse.fromRequest(request);
      response.setDataset(new Dataset({ PatientID, PatientName }));
      response.setStatus(Status.Pending);
      return response;
    });
    const last = CFindResponse.fromRequest(request);
    last.setStatus(Status.Success);
    callback([...responses, last]);
  }
}

new Server(Service).listen(Number(port));
