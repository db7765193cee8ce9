import { model, run } from "./client.mjs";

await run(async (client) => {
  const completion = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Say this again." }],
  });
  const { data, response } = await client.chat.completions
    .create({ model, messages: [{ role: "user", content: "Say this again." }] })
    .withResponse();
  return {
    content: completion.choices[0].message.content,
    finish: completion.choices[0].finish_reason,
    usage: completion.usage,
    same: data.choices[0].message.content === completion.choices[0].message.content,
    requestId: response.headers.get("x-request-id"),
  };
});
