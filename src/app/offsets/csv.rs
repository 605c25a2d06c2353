//! Offsets as CSV in the format of `kafka-consumer-groups --reset-offsets` with `--export` and `--from-file`: lines
//! `topic,partition,next offset` without a header. Pure.

use crate::model::NextOffset;
use crate::progress::topics::partition_of;
use crate::progress::{Offsets, Topics};

/// Returns the lines, each with a line end.
pub fn write(topics: &Topics, offsets: &Offsets) -> String {
    // A topic's name has no character that would have to be quoted.
    let line =
        |(lane, next): (&i32, &NextOffset)| format!("{},{},{}\n", topics.name(*lane), partition_of(*lane), next.0);
    offsets.iter().map(line).collect()
}

/// Reads the lines. Kafka's tool quotes longer names and ends its output with an empty line.
///
/// # Errors
/// The first line that is wrong, and why.
pub fn read(topics: &Topics, text: &str) -> Result<Offsets, String> {
    let mut offsets = Offsets::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |problem: &str| format!("line {number}: {problem}: {line:?}; write topic,partition,offset");
        let fields: Vec<&str> = line.split(',').map(unquoted).collect();
        let [name, partition, next] = fields.as_slice() else {
            return Err(wrong("not three fields"));
        };
        if !topics.read().any(|(_, topic)| topic == *name) {
            return Err(wrong(&format!("the configuration's topic is {}", topics.text())));
        }
        let partition = partition.parse::<i32>().ok().filter(|partition| *partition >= 0);
        let next = next.parse::<i64>().ok().filter(|next| *next >= 0);
        let (Some(partition), Some(next)) = (partition, next) else {
            return Err(wrong("partition and offset are numbers from 0"));
        };
        let lane = topics.lane(name, partition).ok_or_else(|| wrong("no topic has so many partitions"))?;
        if offsets.insert(lane, NextOffset(next)).is_some() {
            return Err(wrong("this partition comes twice"));
        }
    }
    if offsets.is_empty() {
        return Err("it names no partition; write lines topic,partition,offset".to_owned());
    }
    Ok(offsets)
}

fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).unwrap_or(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_what_kafkas_tool_writes() {
        let offsets = Offsets::from([(0, NextOffset(66)), (11, NextOffset(0))]);
        let text = write(&"a.b-c_d".into(), &offsets);
        assert_eq!(text, "a.b-c_d,0,66\na.b-c_d,11,0\n");
        assert_eq!(read(&"a.b-c_d".into(), &text), Ok(offsets.clone()));
        assert_eq!(read(&"a.b-c_d".into(), "\"a.b-c_d\",11,0\r\n\"a.b-c_d\",0,66\r\n\n"), Ok(offsets));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |text: &str, part: &str| {
            let error = read(&"t".into(), text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        };
        check("", "no partition");
        check("\n\n", "no partition");
        check("t,0,5\nt,1\n", "line 2: not three fields");
        check("g,t,0,5\n", "line 1: not three fields");
        check("topic,partition,offset\n", "topic is t");
        check("u,0,5\n", "topic is t");
        check("t,0,-1\n", "numbers from 0");
        check("t,-1,5\n", "numbers from 0");
        check("t,0,five\n", "numbers from 0");
        check("t,0,5\nt,0,6\n", "line 2: this partition comes twice");
    }
}
