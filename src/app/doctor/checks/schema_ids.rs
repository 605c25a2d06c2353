//! Checks that the ids which Apicurio's converter writes are of the kind that the registry is asked for. Global and
//! content ids are different numbers, so the wrong kind reads records by another schema. Pure.

use super::super::facts::Connector;
use super::super::finding::{Finding, ok, problem};
use super::connect::At;
use crate::config::Config;
use crate::failure::Exit;

/// The two kinds of ids in Apicurio's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Global,
    Content,
}

impl Id {
    fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Content => "content",
        }
    }
}

/// Checks the ids. `None` where no registry is set, or the converter is not Apicurio 2's.
pub(super) fn schema_ids(config: &Config, at: &At<'_>) -> Option<Finding> {
    const CHECK: &str = "schema.ids";
    let url = &config.source.schema_registry.as_ref()?.url;
    let parts = ["key.converter", "value.converter"];
    let found: Vec<_> = parts.iter().filter_map(|part| Some((part, ids(at.connector, part, url)?))).collect();
    if found.is_empty() {
        return None;
    }
    let Some((part, (written, read))) = found.iter().find(|(_, (written, read))| written != read) else {
        return Some(ok(CHECK, "ids of schemas are looked up as what the converter writes"));
    };
    let text = format!(
        "{part} writes {} ids of schemas, and source.schema_registry.url asks for {} ids: records would be read by another schema",
        written.as_str(),
        read.as_str()
    );
    let fix = match written {
        Id::Global => {
            "source.schema_registry.url with /apis/registry/v2 at its end, as apicurio.registry.url has".to_owned()
        }
        Id::Content => {
            let set = at.set(&format!("{part}.apicurio.registry.use-id"), "globalId");
            format!("source.schema_registry.url with /apis/ccompat/v7 at its end; or, for new records, {set}")
        }
    };
    Some(problem(CHECK, text, fix).ends(Exit::Misconfigured))
}

/// Returns the kind of ids that a converter writes, and the kind as which they are read.
fn ids(connector: &Connector, part: &str, url: &str) -> Option<(Id, Id)> {
    let setting = |name: &str, default| connector.setting(&format!("{part}.apicurio.registry.{name}"), default);
    // The converter of Apicurio 3 has the same settings with other defaults.
    if !setting("url", "").trim_end_matches('/').ends_with("/apis/registry/v2") {
        return None;
    }
    let written = if setting("use-id", "globalId") == "contentId" { Id::Content } else { Id::Global };
    let is_short =
        setting("as-confluent", "false") == "true" || setting("id-handler", "").ends_with("Legacy4ByteIdHandler");
    let url = url.trim_end_matches('/');
    let (is_two, is_three) = (url.ends_with("/apis/registry/v2"), url.ends_with("/apis/registry/v3"));
    let read = match setting("headers.enabled", "true") {
        // A header says which kind of id it has. Confluent's interface knows only one kind.
        "true" if is_two || is_three => written,
        "true" => Id::Content,
        _ if is_two || is_three && !is_short => Id::Global,
        _ => Id::Content,
    };
    Some((written, read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_as_they_are_written_and_read() {
        let check = |settings: &[(&str, &str)], path: &str, want: Option<(Id, Id)>| {
            let own = |name: &str| format!("value.converter.apicurio.registry.{name}");
            let config = settings.iter().map(|(name, value)| (own(name), (*value).to_owned())).collect();
            let connector = Connector { config, ..Connector::default() };
            let found = ids(&connector, "value.converter", &format!("http://r:8080{path}"));
            assert_eq!(found, want, "{settings:?} {path}");
        };
        let (two, three, confluent) = ("/apis/registry/v2", "/apis/registry/v3/", "/apis/ccompat/v7");
        let url = ("url", "http://r:8080/apis/registry/v2");
        let (front, short, content) = (("headers.enabled", "false"), ("as-confluent", "true"), ("use-id", "contentId"));
        let (global, both) = (Some((Id::Global, Id::Global)), Some((Id::Content, Id::Content)));
        check(&[], two, None);
        check(&[("url", "http://r:8080/apis/registry/v3")], confluent, None);
        check(&[url], two, global);
        check(&[url], three, global);
        check(&[url], confluent, Some((Id::Global, Id::Content)));
        check(&[url, content], confluent, both);
        check(&[url, content], two, both);
        check(&[url, front], two, global);
        check(&[url, front], three, global);
        check(&[url, front], confluent, Some((Id::Global, Id::Content)));
        check(&[url, front, short], two, global);
        check(&[url, front, short], three, Some((Id::Global, Id::Content)));
        check(&[url, front, short], confluent, Some((Id::Global, Id::Content)));
        check(&[url, front, short, content], confluent, both);
        check(&[url, front, short, content], two, Some((Id::Content, Id::Global)));
        check(&[url, front, content], three, Some((Id::Content, Id::Global)));
    }
}
