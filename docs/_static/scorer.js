// "var", since searchtools.js declares the same name. The scores of Sphinx, with how-to pages before contracts and the changelog.
var Scorer = {
  score: ([page, , , , score]) => {
    if (page.startsWith("howto/")) return score + 5;
    if (page.startsWith("generated/ekitools.typing.") || page === "changelog") return score - 5;
    return score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
