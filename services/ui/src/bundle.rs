//! The files that the page links, made once at start from those of `static/`: few, compressed, and with the hash of
//! their content in their name, so that browsers keep them for ever.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write as _,
    sync::LazyLock,
};

use axum::body::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::assets::{ASSETS, Asset, CSS, JAVASCRIPT};

/// All files that the page links.
pub static BUNDLE: LazyLock<Bundle> = LazyLock::new(Bundle::new);

/// The module that imports all others, one by one or through each other.
const MAIN_MODULE: &str = "main.js";

/// A response body, plain and compressed.
#[derive(Debug)]
pub struct File {
    pub kind: &'static str,
    /// The same for the same content on every instance. It needs no cryptographic hash.
    pub hash: String,
    pub plain: Bytes,
    pub gzip: Bytes,
}

impl File {
    pub fn new(kind: &'static str, content: impl Into<Bytes>) -> Self {
        let plain = content.into();
        let mut hasher = DefaultHasher::new();
        plain.hash(&mut hasher);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let gzip = encoder.write_all(&plain).and_then(|()| encoder.finish()).expect("a vector accepts every byte");
        Self { kind, hash: format!("{:016x}", hasher.finish()), plain, gzip: gzip.into() }
    }
}

/// A file below `/static/`, named `<stem>.<hash>.<extension>`.
#[derive(Debug)]
pub struct Linked {
    stem: &'static str,
    extension: &'static str,
    file: File,
}

impl Linked {
    fn new(stem: &'static str, extension: &'static str, file: File) -> Self {
        Self { stem, extension, file }
    }

    fn of(asset: &'static Asset) -> Self {
        let name = asset.path.rsplit('/').next().unwrap_or(asset.path);
        let (stem, extension) = name.split_once('.').expect("every file has an extension");
        Self::new(stem, extension, File::new(asset.kind, asset.bytes))
    }

    /// The path in the page.
    pub fn path(&self) -> String {
        format!("/static/{}.{}.{}", self.stem, self.file.hash, self.extension)
    }

    /// Returns the hash in a path below `/static/`, if it is a path of this file in this build or in another.
    fn hash_in<'path>(&self, path: &'path str) -> Option<&'path str> {
        let hash = path.strip_prefix(self.stem)?.strip_prefix('.')?.strip_suffix(self.extension)?.strip_suffix('.')?;
        (hash.len() == self.file.hash.len()).then_some(hash)
    }
}

#[derive(Debug)]
pub struct Bundle {
    pub icon: Linked,
    pub heartbeat: Linked,
    /// Modules that are loaded later.
    pub scenes: Linked,
    pub search: Linked,
    pub interests: Linked,
    pub theme: Linked,
    pub style: Linked,
    pub script: Linked,
}

impl Bundle {
    fn new() -> Self {
        const LINKED: [&str; 5] = ["favicon.svg", "js/heartbeat.js", "js/scenes.js", "js/search.js", "js/interests.js"];
        let linked = LINKED.map(|path| Linked::of(asset(path)));
        let style: String = ASSETS.iter().filter(|asset| asset.kind == CSS).map(Asset::text).collect();
        let mut script = combine_modules();
        for (path, linked) in LINKED.iter().zip(&linked) {
            script = script.replace(&format!("/static/{path}"), &linked.path());
        }
        let [icon, heartbeat, scenes, search, interests] = linked;
        Self {
            icon,
            heartbeat,
            scenes,
            search,
            interests,
            theme: Linked::of(asset("js/theme-first.js")),
            style: Linked::new("app", "css", File::new(CSS, style)),
            script: Linked::new("app", "js", File::new(JAVASCRIPT, script)),
        }
    }

    /// Returns the file at a path below `/static/`, and the hash in the path, which may be that of another build.
    pub fn find<'path>(&self, path: &'path str) -> Option<(&File, &'path str)> {
        let Self { icon, heartbeat, scenes, search, interests, theme, style, script } = self;
        let files = [icon, heartbeat, scenes, search, interests, theme, style, script];
        files.into_iter().find_map(|linked| Some((&linked.file, linked.hash_in(path)?)))
    }
}

fn asset(path: &str) -> &'static Asset {
    ASSETS.iter().find(|asset| asset.path == path).expect("the list has every file")
}

/// Returns one script with all modules, each after those that it imports.
fn combine_modules() -> String {
    let mut script = "const modules = {};\n".to_owned();
    append_module(MAIN_MODULE, &mut BTreeSet::new(), &mut script);
    script
}

/// Appends a module as a function that returns what the module exports. This understands the two forms that the modules
/// use, each on one line: `import {..} from "./x.js"` (or `* as x`), and `export` before a declaration. Lines that are
/// comments are left out: they are a quarter of the compressed script.
fn append_module(name: &'static str, appended: &mut BTreeSet<&'static str>, script: &mut String) {
    if !appended.insert(name) {
        return;
    }
    let (mut body, mut exports) = (String::new(), Vec::new());
    let mut is_comment = false;
    for line in asset(&format!("js/{name}")).text().lines() {
        let code = line.trim();
        is_comment |= code.starts_with("/**");
        if is_comment || code.starts_with("//") {
            is_comment &= !code.ends_with("*/");
            continue;
        }
        let line = if let Some(import) = line.strip_prefix("import ") {
            let (names, module) = import.split_once(" from \"./").expect("an import of another module");
            let module = module.trim_end_matches("\";");
            append_module(module, appended, script);
            let names = names.strip_prefix("* as ").map_or_else(|| names.replace(" as ", ": "), str::to_owned);
            format!("const {names} = modules[\"{module}\"];")
        } else if let Some(declaration) = line.strip_prefix("export ") {
            let mut words = declaration.split(|character: char| !character.is_alphanumeric() && character != '_');
            let name = words.find(|word| !["async", "function", "class", "const"].contains(word));
            exports.push(name.expect("an exported name"));
            declaration.to_owned()
        } else {
            line.to_owned()
        };
        body.push_str(&line);
        body.push('\n');
    }
    let exports = exports.join(", ");
    write!(script, "\nmodules[\"{name}\"] = (() => {{\n{body}return {{ {exports} }};\n}})();\n").expect("a string");
}
