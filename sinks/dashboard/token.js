/** The access token, where the server wants one: given once as `#token=…` behind the page's address, kept for the tab. */

const KEY = "callscope-token";

/** Take a token out of the address, where it could be seen or copied by accident, into the tab's own storage. */
function adopt() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

/**
 * @returns {string | null} the token, null where none was given.
 */
export function token() {
  adopt();
  return sessionStorage.getItem(KEY);
}

/**
 * A WebSocket's address with the token, because browsers cannot set headers on one.
 * @param {string} url
 */
export function withToken(url, given = token()) {
  return given ? `${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(given)}` : url;
}

/**
 * Why the server does not let this page in, in its words; null if it does, or cannot be asked.
 * A browser never tells why a WebSocket failed: a plain request is answered in the same way.
 * @param {string} url the same as http(s).
 */
export async function whyRefused(url) {
  try {
    const given = token();
    const answer = await fetch(url, { headers: given ? { Authorization: `Bearer ${given}` } : {} });
    return answer.status === 401 || answer.status === 403 ? (await answer.text()).trim() : null;
  } catch {
    return null;
  }
}
