// H.264 profiles as people say them.

const names = {66: "Baseline", 77: "Main", 88: "Extended", 100: "High", 110: "High 10", 122: "High 4:2:2", 244: "High 4:4:4"};

/** "42e01f" is {profile: "Constrained Baseline", level: "3.1"} (H.264 Annex A); null for what is no profile-level-id. */
export function parseProfile(hex) {
  if (!/^[0-9a-f]{6}$/i.test(hex ?? "")) return null;
  const [idc, constraints, level] = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const constrained = idc === 66 && constraints & 0x40 ? "Constrained " : "";
  return names[idc] ? {profile: constrained + names[idc], level: (level / 10).toFixed(1)} : null;
}
