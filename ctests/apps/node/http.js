// http.js URL COUNT [keep]: prints the body of each answer and the peer; on one connection, or one each.
const http = require('http');

const [url, count, keep] = process.argv.slice(2);
const agent = keep ? new http.Agent({ keepAlive: true }) : false;

function get() {
  return new Promise((done, failed) => {
    http.get(url, { agent }, (answer) => {
      const { remoteAddress, remotePort } = answer.socket;
      let body = '';
      answer.on('data', (part) => { body += part; });
      answer.on('end', () => done(`${body.trim()} at ${remoteAddress}:${remotePort}`));
    }).on('error', failed);
  });
}

(async () => {
  for (let n = 0; n < Number(count); n++) console.log(await get());
  if (keep) agent.destroy();
})();
