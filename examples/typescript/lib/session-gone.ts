// A looser test, for the word "session" alone, would take an app's own error for the end of its
// session, as in "NavigationFailed: https://example.com/session/new cannot be loaded".
const GONE = /\bsession not found\b|\bthe session's worker died\b/i;

/** Whether a run failed because its session is no more: expired, ended, or dead. */
export function isSessionGone(error: unknown): boolean {
  return error instanceof Error && GONE.test(error.message);
}
