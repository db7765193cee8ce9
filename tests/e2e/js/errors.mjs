import OpenAI from "openai";
import { run } from "./client.mjs";

await run(async (client) => {
  try {
    await client.models.retrieve("nobody/nothing");
  } catch (error) {
    return {
      notFound: error instanceof OpenAI.NotFoundError,
      status: error.status,
      code: error.code,
      type: error.type,
      param: error.param,
    };
  }
  return null;
});
