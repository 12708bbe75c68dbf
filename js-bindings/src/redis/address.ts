/** Where a server is, by its URL. */

import type { Address } from './driver.js';
import { SettingsError } from './settings-error.js';

/** Reads `redis://`, `rediss://` and `unix://`. The URL is not repeated in errors: it may hold a password. @throws {@link SettingsError} */
export function addressOf(text: string): Address {
  const form =
    'redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], rediss://… for TLS, or unix:///PATH[?db=DB&user=USER&pass=PASSWORD]';
  const bad = (): SettingsError =>
    new SettingsError('url', `the URL cannot be read; it looks like ${form}`);
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw bad();
  }
  const unescape = (part: string): string | undefined => {
    try {
      return part === '' ? undefined : decodeURIComponent(part);
    } catch {
      throw bad();
    }
  };
  const database = (part: string | null): number => {
    if (part === null || part === '') return 0;
    if (!/^\d{1,9}$/.test(part)) throw bad();
    return Number(part);
  };
  if (url.protocol === 'unix:') {
    const path = unescape(url.pathname);
    const query = url.searchParams;
    if (path === undefined || url.host !== '') throw bad();
    const [username, password] = [query.get('user') ?? undefined, query.get('pass') ?? undefined];
    return {
      host: '',
      port: 0,
      path,
      tls: false,
      username,
      password,
      database: database(query.get('db')),
    };
  }
  if ((url.protocol !== 'redis:' && url.protocol !== 'rediss:') || url.hostname === '') throw bad();
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 6379 : Number(url.port),
    path: undefined,
    tls: url.protocol === 'rediss:',
    username: unescape(url.username),
    password: unescape(url.password),
    database: database(url.pathname.slice(1)),
  };
}
