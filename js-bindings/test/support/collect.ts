/** A turn of the garbage collector and of those that wait for it. */
export async function collect(): Promise<void> {
  const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(now: boolean): void } };
  if (Bun !== undefined) Bun.gc(true);
  else gc?.();
  await new Promise((resolve) => setImmediate(resolve));
}
