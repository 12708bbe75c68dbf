/** {@link SettingsError}: settings that nobody can connect with. */

/** Why settings make no sense. No text holds a password. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';

  constructor(
    /** Which setting it is. */
    readonly code: 'url' | 'prefix' | 'number' | 'overflow' | 'setting',
    message: string,
  ) {
    super(message);
  }
}
