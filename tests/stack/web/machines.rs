//! The interfaces for machines, as JSON and as events, and which requests are answered.

use std::io::{BufRead, BufReader};

use serde_json::{Value as Json, json};

use crate::harness::{Table, wait_for};

use super::{agent, get, get_json, with_page};

/// Reads events until `enough` of them with an id have come: (id, event, data).
fn events(url: &str, last: Option<&str>, enough: usize) -> Vec<(String, String, String)> {
    let mut request = agent().get(format!("{url}/api/events"));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    let body = request.call().unwrap().into_body();
    let (mut found, mut id, mut event) = (Vec::new(), String::new(), String::new());
    for line in BufReader::new(body.into_reader()).lines().map_while(Result::ok) {
        match line.split_once(": ") {
            Some(("id", value)) => id = value.to_owned(),
            Some(("event", value)) => event = value.to_owned(),
            Some(("data", value)) if event == "alert" || event == "hello" => {
                found.push((std::mem::take(&mut id), event.clone(), value.to_owned()));
            }
            _ => {}
        }
        if found.len() > enough {
            break;
        }
    }
    found
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_tells_machines_how_it_is() {
    let table = Table::new("web_machines");
    let (job, url) = with_page(table.job("v1"));
    table.insert(&[(1, 7, "2000.00")]);
    let mut run = job.start();
    run.wait_in_log("the page is at");
    wait_for("it is ready", || (get(&format!("{url}/readyz")).0 == 200).then_some(()));
    table.insert(&[(2, 7, "1500.50"), (3, 8, "10.00"), (4, 9, "2999.99"), (5, 9, "0.02")]);
    run.wait_for_line("User 7 ($3,500.50)");
    run.wait_for_line("User 9 ($3,000.01)");

    // A second instance stands by, and says so.
    let (mut second, second_url) = with_page(table.job("v1"));
    second.checkpoints = second.checkpoints.join("second");
    let standing_by = second.start();
    let said =
        wait_for("the second one answers", || Some(get(&format!("{second_url}/readyz"))).filter(|got| got.0 != 0));
    assert_eq!(said.0, 503);
    assert!(said.1.contains("not ready\nit has not joined the group, or stands by"), "{said:?}");
    assert_eq!(get(&format!("{second_url}/livez")).0, 200);
    standing_by.kill();

    let alerts = |query: &str| -> Vec<i64> {
        let found = get_json(&format!("{url}/api/alerts?{query}"));
        let user = |entry: &Json| entry["alert"]["key"]["user_id"].as_i64().unwrap();
        found["alerts"].as_array().unwrap().iter().map(user).collect()
    };
    let mut both = alerts("");
    both.sort_unstable();
    assert_eq!(both, [7, 9]);
    assert_eq!(alerts("key=9&status=firing&rule=weekly-spend&severity=critical"), [9]);
    assert_eq!(alerts("key=%7B%22user_id%22%3A7%7D").len(), 1);
    assert_eq!(alerts("status=resolved").len() + alerts("rule=other").len() + alerts("key=8").len(), 0);
    assert_eq!(alerts("limit=1").len(), 1);
    assert_eq!(get(&format!("{url}/api/alerts?sort=up")).0, 400);

    drill_down(&table, &url);
    guarded(&url);

    // Alerts come with ids, from which a reader goes on.
    let first = events(&url, None, 2);
    let users: Vec<Json> = first[1..].iter().map(|(_, _, data)| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(serde_json::from_str::<Json>(&first[0].2).unwrap()["resumed"], false);
    assert_eq!(users.len(), 2);
    table.insert(&[(6, 8, "3000.00")]);
    run.wait_for_line("User 8 ($3,010.00)");
    let second = events(&url, Some(&first[2].0), 1);
    assert_eq!(serde_json::from_str::<Json>(&second[0].2).unwrap()["resumed"], true);
    assert!(second[1].2.contains("User 8 ($3,010.00)"), "{second:?}");
    let other = events(&url, Some("0192.3"), 3);
    assert_eq!(other.len(), 4, "the ids of another process mean nothing here: {other:?}");
    run.terminate();
    assert_eq!(get(&format!("{url}/livez")).0, 0, "it ends with the run");
}

/// The totals of the drill-down equal those of psql.
fn drill_down(table: &Table, url: &str) {
    for (user, rows) in [(7, 2), (8, 1), (9, 2), (10, 0)] {
        let found = get_json(&format!("{url}/api/key?rule=weekly-spend&key={user}"));
        let sum = format!(
            "SELECT SUM(ABS(amount)) FROM streaming.transactions WHERE timestamp >= NOW() - INTERVAL '7 days' AND user_id = {user}"
        );
        let want = table.sql(&sum)[0].first().filter(|text| !text.is_empty()).map_or(Json::Null, |text| json!(text));
        assert_eq!((&found["trace"]["total"], &found["trace"]["rows"]), (&want, &json!(rows)), "{found}");
        let last =
            found["trace"]["points"].as_array().unwrap().last().map_or(Json::Null, |point| point["total"].clone());
        assert_eq!(last, want, "{found}");
    }
    let found = get_json(&format!("{url}/api/key?rule=weekly-spend&key=%7B%22user_id%22%3A9%7D"));
    let totals: Vec<&Json> = found["trace"]["points"].as_array().unwrap().iter().map(|point| &point["total"]).collect();
    assert_eq!(totals, [&json!("2999.99"), &json!("3000.01")]);
    assert_eq!((&found["threshold"], &found["comparison"]), (&json!("3000"), &json!(">")));
    assert_eq!(
        (&found["confirmed"][0]["total"], &found["confirmed"][0]["status"]),
        (&json!("3000.01"), &json!("firing"))
    );
    for (query, status) in [
        ("rule=weekly-spend", 400),
        ("rule=no&key=1", 404),
        ("rule=weekly-spend&key=x", 400),
        ("rule=weekly-spend&key=%7B%7D", 400),
    ] {
        assert_eq!(get(&format!("{url}/api/key?{query}")).0, status, "{query}");
    }
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_draws_the_keys_of_any_rule() {
    let table = Table::new("web_rules");
    table.sql(
        "INSERT INTO streaming.transactions (user_id, amount, timestamp, merchant)
         VALUES (1, 5, now() - interval '30 days', 'a|\"b'), (1, 6, now() - interval '40 days', 'a|\"b'), (2, -7, now(), NULL)",
    );
    let totals = |version: &str, sql: &str, key: &str| {
        let (mut job, url) = with_page(table.job(version));
        job.sql = format!("{sql}\n");
        let mut run = job.start();
        run.wait_in_log("the page is at");
        let found = get_json(&format!("{url}/api/key?rule=weekly-spend&key={key}"));
        run.kill();
        let points = found["trace"]["points"].as_array().unwrap();
        let texts =
            |name: &str| points.iter().map(|point| point[name].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        (texts("value"), texts("total"), found["trace"]["from"].is_null())
    };
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    // Without a time bound, by a text column, which may be NULL.
    let count = "SELECT merchant AS user_id, COUNT(*) AS total FROM streaming.transactions GROUP BY merchant HAVING COUNT(*) >= 2";
    let both = (strings(&["1", "1"]), strings(&["1", "2"]), true);
    assert_eq!(totals("count", count, "%7B%22merchant%22%3A%22a%7C%5C%22b%22%7D"), both);
    assert_eq!(totals("null", count, "%7B%22merchant%22%3Anull%7D"), (strings(&["1"]), strings(&["1"]), true));
    // Rows in the order of time, whatever their ids; what has left the window is not drawn.
    let sum = "SELECT user_id, SUM(amount) AS total FROM streaming.transactions WHERE timestamp > NOW() - INTERVAL '2 months' GROUP BY user_id HAVING SUM(amount) < 100";
    assert_eq!(totals("sum", sum, "1"), (strings(&["6.00", "5.00"]), strings(&["6.00", "11.00"]), false));
    let month = sum.replace("2 months", "35 days");
    assert_eq!(totals("month", &month, "1"), (strings(&["5.00"]), strings(&["5.00"]), false));
    assert_eq!(totals("month2", &month, "2"), (strings(&["-7.00"]), strings(&["-7.00"]), false));
}

/// Nothing for a page of elsewhere, nothing but reading, nothing from elsewhere.
fn guarded(url: &str) {
    for path in ["/", "/metrics", "/api/alerts", "/readyz"] {
        let answer = agent().get(format!("{url}{path}")).header("Host", "evil.example").call().unwrap();
        assert_eq!(answer.status().as_u16(), 421, "{path}");
    }
    assert_eq!(agent().post(format!("{url}/api/alerts")).send_empty().unwrap().status().as_u16(), 405);
    assert_eq!(get(&format!("{url}/../Cargo.toml")).0, 404);
    for path in ["/", "/app.js", "/app.css", "/chart.js", "/icon.svg"] {
        let mut answer = agent().get(format!("{url}{path}")).call().unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let text = answer.body_mut().read_to_string().unwrap();
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{path} names another place");
    }
}

/// Without a table of alerts: the messages are those of the recovery topic.
#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_lists_what_is_open_after_a_restart() {
    let table = Table::new("web_open");
    let (job, url) = with_page(table.job("v1"));
    table.insert(&[(1, 7, "3500.00"), (2, 8, "10.00"), (3, 9, "4000.00")]);
    let open = |wanted: [(&str, &str); 2]| {
        wait_for(&format!("{wanted:?} are open"), || {
            let answer = get(&format!("{url}/api/open"));
            let answer: Json = serde_json::from_str(&answer.1).ok().filter(|_| answer.0 == 200)?;
            let text = |one: &Json, name: &str| one[name].as_str().unwrap_or_default().to_owned();
            let mut found: Vec<_> =
                answer["open"].as_array()?.iter().map(|one| (text(one, "label"), text(one, "message"))).collect();
            found.sort();
            (found == wanted.map(|(label, message)| (label.to_owned(), message.to_owned()))).then_some(answer)
        })
    };
    let wanted = [("7", "User 7 ($3,500.00)"), ("9", "User 9 ($4,000.00)")];
    let run = job.start();
    let before = open(wanted);
    run.terminate();
    let run = job.start();
    let after = open(wanted);
    assert_eq!(before["open"], after["open"]);
    assert_ne!(before["run"], after["run"]);
    assert_eq!(get_json(&format!("{url}/api/alerts"))["alerts"], json!([]));
    let open = after["open"].as_array().unwrap();
    let seven = open.iter().find(|one| one["label"] == "7").unwrap();
    assert_eq!((&seven["severity"], &seven["key"]), (&json!("critical"), &json!({ "user_id": 7 })));
    run.terminate();
}
