// How the text is to be spoken: the controls under it as fields of a `speak`, and the list of voices.

import { $ } from "./display.js";

export function wishes() {
  const chosen = { mode: "interrupt", timestamps: "segment", language: $("language").value };
  if ($("voice").value) chosen.voice = $("voice").value;
  if ($("style").value.trim()) chosen.instructions = $("style").value.trim();
  if ($("seed").value && $("seed").checkValidity()) chosen.seed = Number($("seed").value);
  return chosen;
}

export async function listVoices(fallback, headers) {
  const list = { voices: [], default: fallback };
  try {
    const answer = await fetch("v1/audio/voices", { headers: headers, cache: "no-store" });
    if (answer.ok) Object.assign(list, await answer.json());
  } catch {
    // The default voice works without the list, and the connection tells of its own troubles.
  }
  if (!list.voices.length && fallback) list.voices = [{ id: fallback, name: fallback }];
  const chosen = $("voice").value || list.default;
  $("voice").replaceChildren(...list.voices.map(({ id, name }) => new Option(name ?? id, id)));
  if (list.voices.some(({ id }) => id === chosen)) $("voice").value = chosen;
}
