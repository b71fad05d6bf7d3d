// net.js HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer.
const net = require('net');
const readline = require('readline');

async function dial(host, port) {
  const socket = net.connect({ host, port });
  const lines = readline.createInterface({ input: socket })[Symbol.asyncIterator]();
  await new Promise((connected, failed) => socket.once('connect', connected).once('error', failed));
  const name = (await lines.next()).value;
  socket.write('ping\n');
  console.log(name, (await lines.next()).value, 'at', `${socket.remoteAddress}:${socket.remotePort}`);
  socket.destroy();
}

(async () => {
  const [host, port, count] = process.argv.slice(2);
  for (let n = 0; n < Number(count); n++) await dial(host, Number(port));
})();
