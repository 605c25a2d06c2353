//! `[[sources]]`: several topics, each with its table.

use tripline::change::debezium::{DecimalHandling, TimePrecision};
use tripline::config::Source;

use crate::{MINIMAL, load};

/// `[source]` has what its entries do not say.
#[test]
fn several_sources() {
    let with = |sources: &str| {
        let text = MINIMAL.lines().filter(|line| !line.starts_with("topic = ")).collect::<Vec<_>>().join("\n");
        load(format!("{text}\n{sources}"), &[("TRIPLINE__SOURCE__DECIMALS", "string")])
    };
    let one = "[[sources]]\ntopic = \"p.s.a\"\n";
    let other =
        "[[sources]]\ntopic = \"p.s.b\"\ntable = \"s.c\"\ndecimals = \"precise\"\nconnector_keeps_nulls = true\n";
    let config = with(&format!("{one}{other}")).unwrap();
    let of = |source: &Source| {
        (source.topic.clone(), source.table.clone(), source.decimals, source.connector_keeps_nulls, source.times)
    };
    assert_eq!(
        config.sources.iter().map(of).collect::<Vec<_>>(),
        [
            ("p.s.a".to_owned(), None, DecimalHandling::String, false, TimePrecision::Adaptive),
            ("p.s.b".to_owned(), Some("s.c".to_owned()), DecimalHandling::Precise, true, TimePrecision::Adaptive),
        ]
    );
    assert_eq!(config.source, config.sources[0]);
    let check = |sources: &str, part: &str| {
        let error = with(sources).unwrap_err();
        assert!(error.contains(part), "{sources}: {error}");
    };
    check(
        &format!("{one}{one}"),
        "source 2: topic: is that of another source too: then both name their table, as in table = \"schema.name\" (source 1)",
    );
    check(
        &format!("{other}{}", other.replace("p.s.b", "p.s.d")),
        "source 2: table: is the table of another source too",
    );
    let table = |table: &str, format: &str| {
        format!("[[sources]]\ntopic = \"all\"\ntable = \"s.{table}\"\nformat = \"{format}\"\n")
    };
    assert_eq!(with(&(table("a", "json") + &table("b", "json"))).unwrap().sources.len(), 2);
    check(
        &(table("a", "json") + &table("b", "avro")),
        "source 2: format: is another one than that of a source with the same topic (source 1)",
    );
    check(
        &(table("a", "avro-unwrapped") + &table("b", "avro-unwrapped")),
        "source 2: format: two tables in one topic are kept apart by the envelope",
    );
    check("[[sources]]\ntable = \"s.a\"\n", "source 1: topic: required, and not set");
    check("[[sources]]\ntopic = \"p.s.a\"\ntable = \"a\"\n", "source 1 (p.s.a): table: must be schema.name");
    check("[[sources]]\ntopic = \"p.s.a\"\non_bad_record = \"stop\"\n", "source 1 (p.s.a): on_bad_record: unknown key");
    check(
        "[[sources]]\ntopic = \"tripline.dead-letter\"\n",
        "dead_letter_topic: must not be the topic of source.topic too",
    );
    let both = load(format!("{MINIMAL}\n{one}"), &[]).unwrap_err();
    assert!(both.contains("source.topic: is that of one source, and there are [[sources]]"), "{both}");
}
