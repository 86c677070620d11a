// node: names by getaddrinfo in libuv's threads and by c-ares, http and https, forty at once.
'use strict';
const dns = require('dns').promises;
const http = require('http');
const https = require('https');
const net = require('net');

function get(url) {
  return new Promise((resolve, reject) => {
    (url.startsWith('https') ? https : http).get(url, {timeout: 30000}, (response) => {
      let length = 0;
      response.on('data', (chunk) => { length += chunk.length; });
      response.on('end', () => resolve(length));
    }).on('error', reject);
  });
}

async function main() {
  for (const url of ['http://www.example.test/bytes/100000', 'https://www.example.test/bytes/100000',
    'http://v6.example.test/bytes/1000', 'http://203.0.113.90/bytes/1000',
    'http://[2001:db8::90]/bytes/1000']) {
    console.log(url, await get(url));
  }
  // c-ares asks by itself; the address stands for the name, whichever it is.
  const addresses = await dns.resolve4('www.example.test');
  console.log('c-ares', addresses.length, await get(`http://${addresses[0]}/bytes/5000`));
  const sizes = await Promise.all(Array.from({length: 40}, (_, number) =>
    get(`http://n${number}.example.test/slow/1000`)));
  console.log('together', sizes.reduce((sum, size) => sum + size, 0));
  const socket = net.connect(22, 'ssh.example.test');
  await new Promise((resolve) => socket.once('connect', resolve));
  console.log('peer port', socket.remotePort);
  const greeting = await new Promise((resolve) => socket.once('data', resolve));
  console.log('greeting', greeting.toString().slice(0, 4));
  socket.destroy();
}

main().catch((error) => {
  console.log(error);
  process.exitCode = 1;
});
