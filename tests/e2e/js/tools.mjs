import { model, run } from "./client.mjs";

const tools = [
  {
    type: "function",
    function: {
      name: "weather",
      description: "The weather in a city.",
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  },
];

await run(async (client) => {
  const body = {
    model,
    messages: [{ role: "user", content: "How is the weather in Lisbon?" }],
    tools,
    tool_choice: "required",
  };
  const whole = await client.chat.completions.create(body);
  const streamed = await client.chat.completions.stream(body).finalChatCompletion();
  const read = (completion) => {
    const [call] = completion.choices[0].message.tool_calls;
    return {
      name: call.function.name,
      arguments: JSON.parse(call.function.arguments),
      finish: completion.choices[0].finish_reason,
    };
  };
  return { whole: read(whole), streamed: read(streamed) };
});
