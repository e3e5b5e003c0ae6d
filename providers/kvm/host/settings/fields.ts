/** Fields of an object that came from outside. */
export type Fields = Readonly<Record<string, unknown>>;

/**
 * Returns the fields of an object.
 * @param where it stands, for messages
 * @param known the fields that there are; any where none are given
 * @throws TypeError for anything else, and for a field that has no meaning
 */
export function objectOf(value: unknown, where: string, known?: readonly string[]): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new TypeError(`${where} must be an object`);
  const unknown = known && Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new TypeError(`${where} has no field ${unknown}; there are: ${known?.join(", ")}`);
  return value as Fields;
}
