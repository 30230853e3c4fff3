// Node's http2 against a listener: URL CA|-. The endpoint answers with the body that it was sent,
// and echoes WebSocket messages.
import assert from "node:assert";
import fs from "node:fs";
import http2 from "node:http2";
import { once } from "node:events";

const [url, ca] = process.argv.slice(2);
const options = ca === "-" ? {} : { ca: fs.readFileSync(ca), servername: "a.test" };
const session = http2.connect(url, options);
session.on("error", (error) => { throw error; });
const [settings] = await once(session, "remoteSettings");
assert(settings.enableConnectProtocol, "RFC 8441 is offered");

function exchange(head, body, more = {}) {
  return new Promise((resolve, reject) => {
    const stream = session.request(head, more);
    const answer = { chunks: [], informational: [] };
    stream.on("headers", (fields) => answer.informational.push(fields[":status"]));
    stream.on("continue", () => stream.end(body));
    stream.on("response", (fields) => { answer.head = fields; });
    stream.on("data", (chunk) => answer.chunks.push(chunk));
    stream.on("trailers", (fields) => { answer.trailers = fields; });
    stream.on("end", () => resolve({ ...answer, body: Buffer.concat(answer.chunks) }));
    stream.on("error", reject);
    if (more.waitForTrailers) stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "7" }));
    if (body !== undefined && !("expect" in head)) stream.end(body);
  });
}

let answer = await exchange({ ":path": "/" });
assert.equal(answer.head[":status"], 200);
answer = await exchange({ ":path": "/", ":method": "HEAD" });
assert.equal(answer.head[":status"], 200);
const large = Buffer.alloc(3_000_000, "0123456789");
answer = await exchange({ ":path": "/", ":method": "POST" }, large);
assert(answer.body.equals(large), "three megabytes come back");
answer = await exchange({ ":path": "/", ":method": "POST" }, "body", { waitForTrailers: true });
assert.equal(answer.body.toString(), "body");
answer = await exchange({ ":path": "/", ":method": "POST", expect: "100-continue" }, "continued");
assert.deepEqual([answer.informational, answer.body.toString()], [[100], "continued"]);
const many = Array.from({ length: 300 }, (_, number) =>
  exchange({ ":path": "/", ":method": "POST" }, `number ${number}`));
for (const [number, each] of (await Promise.all(many)).entries()) {
  assert.equal(each.body.toString(), `number ${number}`);
}
await new Promise((resolve, reject) => session.ping((error) => error ? reject(error) : resolve()));

// RFC 8441: a WebSocket in a stream.
const socket = session.request({
  ":method": "CONNECT", ":protocol": "websocket", ":path": "/ws", "sec-websocket-version": "13",
});
const [opened] = await once(socket, "response");
assert.equal(opened[":status"], 200);
for (const text of ["hello", "again"]) {
  const mask = Buffer.from([1, 2, 3, 4]);
  const masked = Buffer.from(text).map((byte, at) => byte ^ mask[at % 4]);
  socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length]), mask, masked]));
  let came = Buffer.alloc(0);
  while (!came.includes(text)) came = Buffer.concat([came, (await once(socket, "data"))[0]]);
}
socket.end(Buffer.from([0x88, 0x80, 0, 0, 0, 0]));
await once(socket, "close");

// A request that is cancelled does no harm to others.
const cancelled = session.request({ ":path": "/", ":method": "POST" });
cancelled.on("error", () => {});
cancelled.write("some");
cancelled.close(http2.constants.NGHTTP2_CANCEL);
await once(cancelled, "close");
answer = await exchange({ ":path": "/" });
assert.equal(answer.head[":status"], 200);
session.close();
await once(session, "close");
console.log("all done");
