// Sends the events in argv[2] (JSON) with Inngest's SDK, and prints the ids, or the error.
import { Inngest } from "inngest";

const client = new Inngest({ id: "storefront" });
try {
  const sent = await client.send(JSON.parse(process.argv[2]));
  console.log(JSON.stringify({ ids: sent.ids }));
} catch (error) {
  console.log(JSON.stringify({ error: String(error.message ?? error) }));
}
