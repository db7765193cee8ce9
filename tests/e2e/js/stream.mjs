import { model, run } from "./client.mjs";

await run(async (client) => {
  const stream = client.chat.completions.stream({
    model,
    messages: [{ role: "user", content: "one two three four five" }],
    stream_options: { include_usage: true },
  });
  const deltas = [];
  stream.on("content", (delta) => deltas.push(delta));
  const completion = await stream.finalChatCompletion();
  return {
    deltas,
    content: completion.choices[0].message.content,
    finish: completion.choices[0].finish_reason,
    usage: completion.usage,
  };
});
