// names.js resolve|lookup NAME: the addresses that node finds, one a line: by c-ares, which speaks DNS
// itself, or by the C library.
'use strict';
const dns = require('dns').promises;

async function main([way, name]) {
  const found = way === 'lookup' ?
      (await dns.lookup(name, {all: true})).map((each) => each.address) :
      (await Promise.all([dns.resolve4(name), dns.resolve6(name)])).flat();
  console.log(found.join('\n'));
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
