//! The files of Swagger UI, from the archive in the crate `utoipa-swagger-ui-vendored`. The binary contains them, so
//! the documentation works without Internet access.

use std::{
    error::Error,
    fs,
    io::{Cursor, Read},
    path::Path,
};

use proc_macro2::TokenStream;
use quote::quote;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// Files of the folder `dist` that our page uses, with their media types.
const FILES: [(&str, &str); 6] = [
    ("favicon-16x16.png", "image/png"),
    ("favicon-32x32.png", "image/png"),
    ("index.css", "text/css"),
    ("swagger-ui.css", "text/css"),
    ("swagger-ui-bundle.js", "text/javascript"),
    ("swagger-ui-standalone-preset.js", "text/javascript"),
];

/// Extracts the files into `folder`.
pub fn generate(folder: &Path) -> Result<TokenStream, Box<dyn Error>> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let path = file.enclosed_name().unwrap_or_default();
        let wanted = FILES.iter().find(|(name, _)| path.ends_with(Path::new("dist").join(name)));
        if let Some((name, _)) = wanted {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            fs::write(folder.join(name), bytes)?;
        }
    }
    let files = FILES.map(|(name, kind)| {
        let path = format!("/{name}");
        quote!((#name, #kind, include_bytes!(concat!(env!("OUT_DIR"), #path))))
    });
    Ok(quote! {
        /// Name, media type and content.
        pub static FILES: &[(&str, &str, &[u8])] = &[#(#files),*];
    })
}
