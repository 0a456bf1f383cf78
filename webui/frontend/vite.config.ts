import { defineConfig } from "vite";

// Everything lands hashed in webui/static/dist with a manifest that webui/assets.py reads. Paths are
// relative, so the node may sit under any prefix; nothing is inlined, since the content security policy
// allows files of our own only.
export default defineConfig({
  base: "./",
  publicDir: false,
  build: {
    outDir: "../static/dist",
    emptyOutDir: true,
    manifest: "manifest.json",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
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
