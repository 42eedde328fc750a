// Asks a server with dcmjs-dimse: node dcmjs_client.js LIBRARY PORT echo
//                                 node dcmjs_client.js LIBRARY PORT find KEYS
//                                 node dcmjs_client.js LIBRARY PORT store FILE...
// It prints the responses, the last line being JSON: [[status, elements or null], ...].
'use strict';

const [library, port, operation, ...rest] = process.argv.slice(2);
const { Client } = require(library);
const { CEchoRequest, CFindRequest, CStoreRequest } = require(library).requests;

const requests = {
  echo: () => [new CEchoRequest()],
  find: () => [CFindRequest.createStudyFindRequest(JSON.parse(rest[0]))],
  store: () => rest.map((file) => new CStoreRequest(file)),
}[operation]();

const responses = [];
const client = new Client();
for (const request of requests) {
  request.on('response', (response) => {
    const elements = response.hasDataset() ? response.getDataset().getElements() : null;
    responses.push([response.getStatus(), elements]);
  });
  client.addRequest(request);
}
client.on('networkError', (error) => {
  console.error(error);
  process.exitCode = 1;
});
client.on('closed', () => console.log(`\n${JSON.stringify(responses)}`));
client.send('127.0.0.1', Number(port), 'DCMJS', 'ARCHIVE');
