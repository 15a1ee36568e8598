// Live typing: tells finished words from the one that is still being typed. Pure functions of text.

// A word is finished by white space, or in scripts without spaces by being written at all.
const SPACELESS = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u;

// [what may be spoken, what is still being typed]
export function finishedWords(typed) {
  const space = typed.search(/\s\S*$/u);
  const end = SPACELESS.test(typed.at(-1) ?? "") ? typed.length : space + 1;
  return [typed.slice(0, end), typed.slice(end)];
}
