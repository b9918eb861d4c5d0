/** What the app's `screenshot` gives. */
export interface Picture {
  screenshot: { uri: string };
  title: string | null;
  url: string;
}

export function Screenshot({ picture }: { picture: Picture }) {
  return (
    <figure>
      <img src={here(picture.screenshot.uri)} alt={`Screenshot of ${picture.url}`} />
      <figcaption>
        <strong>{picture.title}</strong> {picture.url}
      </figcaption>
    </figure>
  );
}

/** The same address at this page's own server, which passes files on: the gateway may be out of reach. */
function here(uri: string): string {
  return new URL(uri).pathname;
}
