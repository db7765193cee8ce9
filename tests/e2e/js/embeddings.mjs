import { model, run } from "./client.mjs";

await run(async (client) => {
  const input = ["first text", "second text"];
  const packed = await client.embeddings.create({ model, input });
  const plain = await client.embeddings.create({ model, input, encoding_format: "float" });
  return {
    packed: packed.data.map((item) => item.embedding),
    plain: plain.data.map((item) => item.embedding),
    usage: packed.usage,
  };
});
