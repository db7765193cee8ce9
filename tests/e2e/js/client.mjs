// One shape for every case: a client on the gateway, and its result as one JSON line.
import OpenAI from "openai";

export const model = "echo/echo";

export async function run(work) {
  const client = new OpenAI({ apiKey: "sk-none", baseURL: process.env.GATEWAY_URL, maxRetries: 0 });
  process.stdout.write(JSON.stringify(await work(client)));
}
