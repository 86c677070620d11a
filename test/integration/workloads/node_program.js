// What node does with sockets: its libuv makes all of them non-blocking and resolves names in threads.
'use strict';
const dgram = require('dgram');
const dns = require('dns');
const http = require('http');
const net = require('net');
const {once} = require('events');
const {spawn} = require('child_process');

const FAR = process.env.OAKUM_FAR;

function get(options) {
  return new Promise((resolve, reject) => {
    http.get(options, (response) => {
      let length = 0;
      response.on('data', (chunk) => { length += chunk.length; });
      response.on('end', () => resolve(length));
    }).on('error', reject);
  });
}

async function listen(server, ...where) {
  server.listen(...where);
  await once(server, 'listening');
  return server;
}

async function datagrams() {
  const server = dgram.createSocket('udp4');
  server.on('message', (message, peer) => server.send(message, peer.port, peer.address));
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const client = dgram.createSocket('udp4');
  let total = 0;
  for (let round = 0; round < 50; ++round) {
    client.send(Buffer.alloc(1000), server.address().port, 'localhost');
    const [message] = await once(client, 'message');
    total += message.length;
  }
  client.close();
  server.close();
  return total;
}

async function main() {
  const body = Buffer.alloc(20000, 'x');
  const server = await listen(http.createServer((request, response) => response.end(body)),
    {port: 8080, host: 'localhost', backlog: 511});
  const unix = await listen(http.createServer((request, response) => response.end(body)),
    '/tmp/work/node.sock');

  const agent = new http.Agent({keepAlive: false, maxSockets: Infinity});
  const sizes = await Promise.all(Array.from({length: 200}, () =>
    get({host: 'localhost', port: 8080, agent})));
  console.log('http', sizes.reduce((sum, size) => sum + size, 0));
  const overUnix = await Promise.all(Array.from({length: 100}, () =>
    get({socketPath: '/tmp/work/node.sock', agent})));
  console.log('unix', overUnix.reduce((sum, size) => sum + size, 0));
  const fetched = await Promise.all(Array.from({length: 50}, async () =>
    (await (await fetch('http://localhost:8080/')).arrayBuffer()).byteLength));
  console.log('fetch', fetched.reduce((sum, size) => sum + size, 0));
  console.log('far', await get({host: FAR, port: 8080, path: '/bytes/100000'}));

  console.log('lookup', (await dns.promises.lookup('localhost', {all: true}))
    .map((entry) => entry.address).sort().join(' '));
  console.log('udp', await datagrams());
  await new Promise((resolve) => net.connect(1, '127.0.0.1')
    .on('error', (error) => { console.log('refused', error.code); resolve(); }));
  const child = spawn('/bin/cat', {stdio: ['pipe', 'pipe', 'inherit']});
  child.stdin.end('through a child');
  console.log('child', String((await once(child.stdout, 'data'))[0]));
  server.close();
  unix.close();
  server.closeAllConnections();
}

main();
