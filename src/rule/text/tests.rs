use super::*;

fn relations() -> Relations {
    let of = |name: &str, columns: &str, primary_key: &str| {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let relation = Relation {
            schema: "streaming".to_owned(),
            name: name.to_owned(),
            columns: list(columns),
            primary_key: list(primary_key),
        };
        (format!("streaming.{name}"), relation)
    };
    Relations::from([
        of("t", "id user_id card_id merchant_id payee_id device_id amount currency lat lon created_at", "id"),
        of("limits", "user_id daily_limit", "user_id"),
        of("lists", "id name value", "id"),
        of("fx", "currency rate", "currency"),
        of("merchants", "id segment active", "id"),
        of("calendar", "d open", "d"),
    ])
}

fn touched(sql: &str) -> Result<Vec<Vec<String>>, String> {
    let parsed = parse(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    let relations = relations();
    let key = parsed.key(&relations)?.ok_or("no key")?;
    parsed.touches(&relations["streaming.t"], &relations, &key)
}

#[test]
fn which_keys_a_change_touches() {
    let check = |sql: &str, want: Result<&[&[&str]], &str>| match (touched(sql), want) {
        (Ok(touches), Ok(want)) => assert_eq!(touches, want, "{sql}"),
        (Err(why), Err(part)) => assert!(why.contains(part), "{why}: {sql}"),
        (got, want) => panic!("{got:?}, not {want:?}: {sql}"),
    };
    check(
        "SELECT t.user_id, SUM(t.amount), l.daily_limit FROM streaming.t JOIN streaming.limits l ON l.user_id = t.user_id \
         GROUP BY t.user_id, l.daily_limit HAVING SUM(t.amount) > l.daily_limit",
        Ok(&[&["user_id"]]),
    );
    check(
        "SELECT user_id FROM streaming.t WHERE NOT EXISTS (SELECT 1 FROM streaming.lists w WHERE w.value = t.user_id::text) \
         GROUP BY user_id HAVING SUM(amount) > 2000",
        Ok(&[&["user_id"]]),
    );
    check(
        "SELECT m.id FROM streaming.merchants m LEFT JOIN streaming.t ON t.merchant_id = m.id AND t.amount > 1 WHERE m.active \
         GROUP BY m.id HAVING COUNT(t.id) = 0",
        Ok(&[&["merchant_id"]]),
    );
    check(
        "SELECT user_id FROM (SELECT user_id, created_at - LAG(created_at) OVER (PARTITION BY user_id ORDER BY created_at) AS gap \
         FROM streaming.t) x GROUP BY user_id HAVING COUNT(*) FILTER (WHERE gap < INTERVAL '2 seconds') >= 3",
        Ok(&[&["user_id"]]),
    );
    check(
        "SELECT card_id FROM (SELECT card_id, lat - LAG(lat) OVER w AS km FROM streaming.t \
         WINDOW w AS (PARTITION BY card_id ORDER BY created_at)) x GROUP BY card_id HAVING MAX(km) > 900",
        Ok(&[&["card_id"]]),
    );
    check(
        "SELECT user_id FROM (SELECT user_id, lat - LAG(lat) OVER (ORDER BY created_at) AS km FROM streaming.t) x \
         GROUP BY user_id HAVING MAX(km) > 900",
        Err("a window function looks at rows of other keys"),
    );
    check(
        "SELECT user_id FROM (SELECT user_id, payee_id, MIN(created_at) AS first FROM streaming.t GROUP BY user_id, payee_id) p \
         GROUP BY user_id HAVING COUNT(*) >= 3",
        Ok(&[&["user_id"]]),
    );
    check(
        "SELECT user_id FROM (SELECT MAX(user_id) AS user_id, payee_id FROM streaming.t GROUP BY payee_id) p GROUP BY user_id \
         HAVING COUNT(*) >= 3",
        Err("in the key is no column"),
    );
    check(
        "SELECT merchant_id FROM streaming.t GROUP BY merchant_id \
         HAVING SUM(amount) > 0.2 * (SELECT SUM(amount) FROM streaming.t WHERE amount > 0)",
        Err("no column of t is shown to equal the key"),
    );
    check(
        "SELECT merchant_id FROM streaming.t a GROUP BY merchant_id \
         HAVING SUM(amount) > 2 * (SELECT AVG(amount) FROM streaming.t b WHERE b.merchant_id = a.merchant_id)",
        Ok(&[&["merchant_id"]]),
    );
    check(
        "SELECT user_id, SUM(amount) FROM streaming.t GROUP BY user_id ORDER BY SUM(amount) DESC LIMIT 10",
        Err("LIMIT compares keys with each other"),
    );
    check(
        "SELECT a.card_id FROM streaming.t a JOIN streaming.t b ON b.card_id = a.card_id AND b.created_at > a.created_at \
         WHERE a.amount < 2 AND b.amount > 500 GROUP BY a.card_id HAVING COUNT(*) >= 1",
        Ok(&[&["card_id"]]),
    );
    check(
        "SELECT a.user_id FROM streaming.t a JOIN streaming.t b ON b.payee_id = a.user_id GROUP BY a.user_id HAVING COUNT(*) > 1",
        Ok(&[&["user_id"], &["payee_id"]]),
    );
    check(
        "SELECT a.device_id FROM streaming.t a, streaming.t b WHERE b.device_id = a.device_id AND b.user_id <> a.user_id \
         GROUP BY 1 HAVING COUNT(DISTINCT a.user_id) >= 3",
        Ok(&[&["device_id"]]),
    );
    check(
        "SELECT a.user_id FROM streaming.t a JOIN streaming.t b ON b.device_id = a.device_id GROUP BY a.user_id HAVING COUNT(*) > 1",
        Err("no column of b is shown to equal the key"),
    );
    check(
        "SELECT a.user_id FROM streaming.t a LEFT JOIN streaming.limits l ON a.user_id = a.payee_id JOIN streaming.t b \
         ON b.user_id = a.payee_id GROUP BY a.user_id HAVING COUNT(*) > 1",
        Err("no column of b is shown to equal the key"),
    );
    check(
        "SELECT t.merchant_id FROM streaming.merchants m LEFT JOIN streaming.t ON t.merchant_id = m.id GROUP BY t.merchant_id \
         HAVING COUNT(*) > 1",
        Err("the side of a LEFT JOIN that may be missing"),
    );
    check(
        "WITH spent AS (SELECT user_id, SUM(amount) AS total FROM streaming.t GROUP BY user_id) SELECT s.user_id FROM spent s \
         JOIN streaming.limits USING (user_id) GROUP BY s.user_id HAVING MAX(total) > 5",
        Ok(&[&["user_id"]]),
    );
    check(
        "SELECT user_id FROM streaming.t WHERE user_id IN (SELECT payee_id FROM streaming.t WHERE amount > 5) GROUP BY user_id \
         HAVING COUNT(*) > 1",
        Ok(&[&["user_id"], &["payee_id"]]),
    );
    check(
        "SELECT user_id FROM streaming.t WHERE user_id NOT IN (SELECT payee_id FROM streaming.t WHERE amount > 5) GROUP BY user_id \
         HAVING COUNT(*) > 1",
        Err("no column of t is shown to equal the key"),
    );
    check("SELECT user_id FROM streaming.t GROUP BY user_id HAVING COUNT(*) > 1 UNION SELECT 5", Err("no key"));
    check(
        "SELECT user_id + 1 FROM streaming.t GROUP BY user_id + 1 HAVING COUNT(*) > 1",
        Err("user_id + 1 in the key is no column"),
    );
    check(
        "SELECT COUNT(*) FROM streaming.t GROUP BY user_id HAVING COUNT(*) > 1",
        Err("GROUP BY has user_id, which is not selected"),
    );
    check(
        "SELECT segment FROM streaming.merchants GROUP BY segment HAVING COUNT(*) > 9",
        Err("it does not read streaming.t"),
    );
}

#[test]
fn what_looks_equal_and_is_not() {
    let check = |sql: &str, part: &str| match touched(sql) {
        Err(why) => assert!(why.contains(part), "{why}: {sql}"),
        Ok(touches) => panic!("{touches:?}: {sql}"),
    };
    // Both columns equal a row that may be missing, so they need not be equal.
    check(
        "SELECT a.user_id FROM streaming.limits a CROSS JOIN streaming.t b LEFT JOIN streaming.merchants z \
         ON z.id = a.user_id AND z.id = b.user_id GROUP BY a.user_id HAVING COUNT(*) > 1",
        "no column of b is shown to equal the key",
    );
    // USING refers to the tables that it joins, not to the table before the comma.
    check(
        "SELECT a.user_id FROM streaming.limits a, streaming.t b JOIN streaming.limits z USING (user_id) GROUP BY a.user_id \
         HAVING COUNT(*) > 1",
        "no column of b is shown to equal the key",
    );
    // A NULL among the rows makes this condition not true for every key.
    for condition in [
        "NOT (user_id IN (SELECT payee_id FROM streaming.t))",
        "(user_id IN (SELECT payee_id FROM streaming.t)) IS FALSE",
    ] {
        check(
            &format!("SELECT user_id FROM streaming.t WHERE {condition} GROUP BY user_id HAVING COUNT(*) > 1"),
            "no column of t is shown to equal the key",
        );
    }
    // A name in WITH refers to an earlier one.
    check(
        "WITH x AS (SELECT * FROM streaming.t), y AS (SELECT * FROM x), z AS (SELECT * FROM y) SELECT s.user_id FROM streaming.t s \
         CROSS JOIN z GROUP BY s.user_id HAVING COUNT(*) > 1",
        "z",
    );
    check(
        "SELECT s.user_id FROM streaming.t s, unnest((SELECT array_agg(amount) FROM streaming.t)) AS f GROUP BY s.user_id \
         HAVING COUNT(*) > 1",
        "a function in FROM reads it",
    );
}

#[test]
fn what_is_in_a_text() {
    let parsed = parse("SELECT lower(x) FROM a.b JOIN c ON random() > (SELECT now()) -- ;\n ; -- end").unwrap();
    assert_eq!(
        (parsed.relations, parsed.functions),
        (vec!["a.b".into(), "c".into()], vec!["lower".into(), "now".into(), "random".into()])
    );
    assert_eq!(parsed.sql, "SELECT lower(x) FROM a.b JOIN c ON random() > (SELECT now()) -- ;\n ");
    let check = |sql: &str, part: &str| assert!(parse(sql).unwrap_err().problem.contains(part), "{sql}");
    check("SELECT 1; SELECT 2", "a second statement");
    check("", "there is no SQL here");
    check("DELETE FROM t", "not a SELECT");
    check("SELECT * FROM t FOR UPDATE", "FOR UPDATE and its like are not supported");
    check("SELECT * INTO x FROM t", "FOR UPDATE and its like");
    check("SELECT * FROM t TABLESAMPLE SYSTEM (10)", "TABLESAMPLE is not supported");
    check("SELECT * FROM t WHERE id = $1", "parameters are not supported");
    let parsed = parse("WITH x AS (SELECT 1 FROM y) SELECT * FROM x").unwrap();
    assert_eq!(parsed.relations, ["y", "x"]);
}
