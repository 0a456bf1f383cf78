import { defineConfig, type Plugin } from "vite";

/**
 * The content security policy forbids style attributes; the viewer's tools set one on the words beside a
 * measurement. The same through the style's own interface is allowed. Fails when there is nothing to change.
 */
function stylesWithoutAttributes(): Plugin {
  const attribute = /(\w+)\.setAttribute\('style', (\w+)\);/;
  return {
    name: "styles-without-attributes",
    transform: {
      filter: { id: /@cornerstonejs\/tools\/.*\/drawTextBox\.js$/ },
      handler(code) {
        if (!attribute.test(code)) throw new Error("drawTextBox.js no longer sets a style attribute");
        return { code: code.replace(attribute, "$1.style.cssText = $2;"), map: null };
      },
    },
  };
}

/** A decoder for transfer syntaxes that the node does not take, of a megabyte: left out. */
function withoutJpegXl(): Plugin {
  return {
    name: "without-jpeg-xl",
    load: {
      filter: { id: /@cornerstonejs\/dicom-image-loader\/.*\/decodeJPEGXL\.js$/ },
      handler: () => "export default () => Promise.reject(new Error('JPEG XL is not taken'));\nexport const initialize = () => Promise.resolve();",
    },
  };
}

// Everything lands hashed in webui/static/dist with a manifest that webui/assets.py reads. Paths are
// relative, so the node may sit under any prefix; nothing is inlined, since the content security policy
// allows files of our own only.
export default defineConfig({
  base: "./",
  publicDir: false,
  plugins: [stylesWithoutAttributes(), withoutJpegXl()],
  resolve: {
    alias: { path: "path-browserify" },
  },
  worker: {
    format: "es",
    plugins: () => [withoutJpegXl()],
    rollupOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  build: {
    outDir: "../static/dist",
    emptyOutDir: true,
    manifest: "manifest.json",
    license: { fileName: "licenses.md" }, // of every library that is bundled, beside what it was bundled into
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 4096, // the viewer, loaded on pages with images alone
    target: "es2022",
    rollupOptions: {
      input: ["src/main.ts", "src/theme.ts", "src/mark.svg"],
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
});
