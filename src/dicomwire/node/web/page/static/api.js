// Requests to the archive, and small helpers that all pages use.

/** A request that the archive has refused; the message says why. */
export class Refused extends Error {}

/** Fetch; a change names itself, so that a foreign page cannot make it. */
export async function request(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: { "X-Requested-With": "dicomwire", ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The archive does not answer. Is it running?");
  }
  if (response.status === 401) location.assign("/login?next=" + encodeURIComponent(location.pathname + location.search));
  if (!response.ok) throw new Refused(await reason(response));
  return response;
}

export async function json(url, options) {
  return (await request(url, options)).json();
}

/** Send JSON by POST. */
export function post(url, body) {
  return json(url, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

async function reason(response) {
  try {
    const problem = await response.json();
    return sentence(problem.detail || problem.title);
  } catch {
    return `The archive has answered with status ${response.status}.`;
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");

export const byId = (id) => document.getElementById(id);

export const counted = (number, one, many = one + "s") => `${number.toLocaleString("en").replaceAll(",", "\u202f")} ${number === 1 ? one : many}`;

export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; unit++) bytes /= 1000;
  return `${bytes.toFixed(unit < 2 || bytes >= 100 ? 0 : 1)} ${units[unit]}`;
}

/** Make an element: attributes, then children (text or elements). */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}
