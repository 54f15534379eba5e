// Subscribes with the token in argv[2] by Inngest's realtime client, and prints so many messages as argv[3] says.
import { subscribe } from "@inngest/realtime";
const [, , key, count] = process.argv;
const stream = await subscribe({ channel: "order:A1", topics: ["log"], key });
console.log("open");
let left = Number(count);
for await (const message of stream) {
  console.log(JSON.stringify({ channel: message.channel, topic: message.topic, data: message.data, kind: message.kind }));
  if (--left === 0) process.exit(0);
}
