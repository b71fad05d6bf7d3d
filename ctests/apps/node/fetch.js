// fetch.js URL COUNT [keep]: prints the body of each answer; on one connection, or one each.
(async () => {
  const [url, count, keep] = process.argv.slice(2);
  const headers = keep ? {} : { connection: 'close' };
  for (let n = 0; n < Number(count); n++) {
    process.stdout.write(await (await fetch(url, { headers })).text());
  }
})();
