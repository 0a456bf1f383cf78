import "@fontsource-variable/atkinson-hyperlegible-next/wght.css";
import "@fontsource-variable/atkinson-hyperlegible-mono/wght.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/forms.css";
import "./styles/shell.css";
import "./styles/queue.css";
import "./styles/job.css";
import "./styles/upload.css";
import "./styles/system.css";
import "./styles/fetch.css";
import "./styles/statement.css";

import { wireActions, wireTheme } from "./actions";
import { follow, onChange, remember } from "./live";
import { keepTrue, localise } from "./times";
import { wireSearch } from "./search";
import { wireUpload } from "./upload";
import { wireViewer } from "./viewer";

function wireViewers(): void {
  for (const viewer of document.querySelectorAll<HTMLElement>("[data-viewer]")) wireViewer(viewer);
}

remember();
localise();
keepTrue();
wireTheme();
wireActions();
wireViewers();
onChange(wireViewers);
const upload = document.querySelector<HTMLFormElement>("form[data-upload]");
if (upload) wireUpload(upload);
const search = document.querySelector<HTMLFormElement>("form[data-search]");
if (search) wireSearch(search);
if (document.body.dataset["follow"] !== undefined) follow();
document.documentElement.dataset["ready"] = "1";
