//! Which module of `src` names which, read from the syntax trees: `use` declarations and paths alike. Tests in the sources
//! are left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, ItemFn, ItemMod, ItemUse, Path as SynPath, UseTree, Visibility};

/// A file of `src`: its module (`sink::kafka`), the modules that it names, and the paths into other crates
/// (`std::fs::read`).
pub(crate) struct Module {
    pub(crate) names: BTreeSet<String>,
    pub(crate) external: BTreeSet<String>,
    pub(crate) is_async: bool,
}

/// All modules by path.
pub(crate) struct Modules(pub(crate) BTreeMap<String, Module>);

impl Modules {
    /// Those of the crate.
    pub(crate) fn of_crate() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let texts = super::files("src", ".rs").into_iter().map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (module_of(path.strip_prefix(&root).unwrap()), text)
        });
        Self::read(texts.filter(|(module, _)| !is_test(module)).collect())
    }

    /// Reads modules from their texts.
    pub(crate) fn read(texts: BTreeMap<String, String>) -> Self {
        let known: BTreeSet<String> = texts.keys().cloned().collect();
        let read = |(module, text): (&String, &String)| {
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("src/{module}: {error}"));
            let mut found =
                Found { module, known: &known, names: BTreeSet::new(), external: BTreeSet::new(), is_async: false };
            found.visit_file(&file);
            found.names.remove(module);
            let Found { names, external, is_async, .. } = found;
            (module.clone(), Module { names, external, is_async })
        };
        Self(texts.iter().map(read).collect())
    }

    /// Everything that a module names, and that names in turn as far as it goes `through`, each with the way to it:
    /// `unit → rule → model`.
    pub(crate) fn closure(&self, module: &str, through: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
        let mut found = BTreeMap::from([(module.to_owned(), module.to_owned())]);
        let mut queue = VecDeque::from([module.to_owned()]);
        while let Some(next) = queue.pop_front() {
            if !through(&next) {
                continue;
            }
            let way = found[&next].clone();
            for name in &self.0[&next].names {
                if !found.contains_key(name) {
                    found.insert(name.clone(), format!("{way} → {name}"));
                    queue.push_back(name.clone());
                }
            }
        }
        found
    }
}

/// `sink/kafka.rs` → `sink::kafka`. `lib.rs` has no name.
fn module_of(file: &Path) -> String {
    let parts: Vec<_> = file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("::")
}

fn is_test(module: &str) -> bool {
    module == "lib" || module.ends_with("tests")
}

struct Found<'a> {
    module: &'a str,
    known: &'a BTreeSet<String>,
    names: BTreeSet<String>,
    external: BTreeSet<String>,
    is_async: bool,
}

impl Found<'_> {
    /// A path as it is written, from this module.
    fn take(&mut self, parts: &[String]) {
        let mut base: Vec<String> = match parts.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.split("::").map(str::to_owned).collect(),
            Some(first) => {
                // A submodule, else another crate; a name of this module's own is neither.
                let inner = format!("{}::{first}", self.module);
                if self.known.contains(&inner) {
                    self.add(format!("{}::{}", self.module, parts.join("::")));
                } else if parts.len() > 1 {
                    self.external.insert(parts.join("::"));
                }
                return;
            }
            None => return,
        };
        let mut rest = parts;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            rest = after;
        }
        base.extend(rest.iter().cloned());
        self.add(base.join("::"));
    }

    /// The module that a path leads into: the longest that there is.
    fn add(&mut self, path: String) {
        let mut parts: Vec<&str> = path.split("::").collect();
        while !parts.is_empty() {
            let module = parts.join("::");
            if self.known.contains(&module) {
                self.names.insert(module);
                return;
            }
            parts.pop();
        }
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |ident: &syn::Ident| {
            let mut parts = before.to_vec();
            parts.push(ident.to_string());
            parts
        };
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) if name.ident == "self" => self.take(before),
            UseTree::Name(name) => self.take(&with(&name.ident)),
            UseTree::Rename(name) => self.take(&with(&name.ident)),
            UseTree::Glob(_) => self.take(before),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item)),
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Found<'_> {
    /// `pub(super)` names nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast SynPath) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.take(&parts);
        visit::visit_path(self, path);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.is_async |= item.sig.asyncness.is_some();
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.is_async |= item.sig.asyncness.is_some();
        visit::visit_impl_item_fn(self, item);
    }
}

/// The path of a file, for messages.
pub(crate) fn file_of(module: &str) -> PathBuf {
    PathBuf::from("src").join(module.replace("::", "/")).with_extension("rs")
}
