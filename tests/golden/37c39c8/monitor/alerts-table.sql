--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: tripline; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA tripline;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: _sqlx_migrations; Type: TABLE; Schema: tripline; Owner: -
--

CREATE TABLE tripline._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);


--
-- Name: alerts; Type: TABLE; Schema: tripline; Owner: -
--

CREATE TABLE tripline.alerts (
    id uuid NOT NULL,
    "group" text NOT NULL,
    lineage text NOT NULL,
    rule text NOT NULL,
    rule_version text NOT NULL,
    status text NOT NULL,
    severity text NOT NULL,
    key jsonb NOT NULL,
    message text NOT NULL,
    stream jsonb NOT NULL,
    database jsonb,
    "having" text NOT NULL,
    window_from timestamp with time zone,
    window_to timestamp with time zone NOT NULL,
    trigger jsonb,
    confirmation jsonb NOT NULL,
    emitted_at timestamp with time zone NOT NULL,
    episode text
);


--
-- Name: TABLE alerts; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON TABLE tripline.alerts IS 'what tripline has told: one row per firing or resolved alert';


--
-- Name: COLUMN alerts.episode; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON COLUMN tripline.alerts.episode IS 'the epoch in which the episode fired and its ordinal there, such as 12.0; the same for firing and resolved';


--
-- Name: generations; Type: TABLE; Schema: tripline; Owner: -
--

CREATE TABLE tripline.generations (
    "group" text NOT NULL,
    generation bigint NOT NULL,
    owner text NOT NULL,
    raised_at timestamp with time zone NOT NULL
);


--
-- Name: TABLE generations; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON TABLE tripline.generations IS 'which instance of a group writes to tripline.alerts; to be left alone while one runs';


--
-- Name: COLUMN generations.generation; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON COLUMN tripline.generations.generation IS 'raised by one by each instance that begins; only the newest may write';


--
-- Name: COLUMN generations.owner; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON COLUMN tripline.generations.owner IS 'host name and process id of the instance that raised it; nothing depends on it';


--
-- Name: COLUMN generations.raised_at; Type: COMMENT; Schema: tripline; Owner: -
--

COMMENT ON COLUMN tripline.generations.raised_at IS 'when it was raised';


--
-- Data for Name: _sqlx_migrations; Type: TABLE DATA; Schema: tripline; Owner: -
--

INSERT INTO tripline._sqlx_migrations VALUES (1, 'alerts', '2026-11-27 20:54:43.821105+00', true, '\x93e3fe309e4ec41d5ccfd0e5a7a5e9183541d14f79339f13d1e7895b0dcc5d939f7a1545127d68efb654e2a0624eec85', 6768573);
INSERT INTO tripline._sqlx_migrations VALUES (2, 'generations', '2026-11-27 20:54:43.828416+00', true, '\xda80d4f6c7c1b2431b12ce160351e6066f39e63abd90055853716f73242c475106793f660c9b1e22b89711478e172270', 3342004);


--
-- Data for Name: alerts; Type: TABLE DATA; Schema: tripline; Owner: -
--

INSERT INTO tripline.alerts VALUES ('6baefed8-8a25-5eab-8aa2-0fede31b77ef', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 101}', 'User 101 ($3,400.50)', '{"total": "3400.50", "transactions": 3}', '{"total": "3400.50", "transactions": 3}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:54:45.512564+00', '2026-11-27 20:54:45.512564+00', '{"op": "c", "pk": {"id": 3}, "lsn": 22000408, "topic": "golden.streaming.transactions", "tx_id": 503, "offset": 1, "partition": 1, "event_time": "2026-11-20T08:10:00.000003Z", "committed_at": "2026-11-27T18:00:02.763123Z"}', '{"ms": 6, "as_of": "2026-11-27T20:54:45.512564Z", "attempts": 1, "required": true, "snapshot": "734:734:"}', '2026-11-27 20:54:45.519342+00', '1.0');
INSERT INTO tripline.alerts VALUES ('3df8c934-175b-5e79-a037-bbe1766dfc19', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 102}', 'User 102 ($3,200.00)', '{"total": "3200.00", "transactions": 1}', '{"total": "3200.00", "transactions": 1}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:54:45.512564+00', '2026-11-27 20:54:45.512564+00', '{"op": "c", "pk": {"id": 4}, "lsn": 22000544, "topic": "golden.streaming.transactions", "tx_id": 504, "offset": 1, "partition": 0, "event_time": "2026-11-21T09:00:00.000004Z", "committed_at": "2026-11-27T18:00:03.764123Z"}', '{"ms": 6, "as_of": "2026-11-27T20:54:45.512564Z", "attempts": 1, "required": true, "snapshot": "734:734:"}', '2026-11-27 20:54:45.519342+00', '1.1');
INSERT INTO tripline.alerts VALUES ('c106a65b-8c82-58c5-87d8-5f09d3446db6', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 105}', 'User 105 ($5,000.00)', '{"total": "5000.00", "transactions": 1}', '{"total": "5000.00", "transactions": 1}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:54:45.512564+00', '2026-11-27 20:54:45.512564+00', '{"op": "c", "pk": {"id": 9}, "lsn": 22001224, "topic": "golden.streaming.transactions", "tx_id": 509, "offset": 4, "partition": 1, "event_time": "2026-11-23T12:00:00.000009Z", "committed_at": "2026-11-27T18:00:08.769123Z"}', '{"ms": 6, "as_of": "2026-11-27T20:54:45.512564Z", "attempts": 1, "required": true, "snapshot": "734:734:"}', '2026-11-27 20:54:45.519342+00', '1.2');
INSERT INTO tripline.alerts VALUES ('2677abc2-5adb-58d5-a230-e107910bc4b0', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'busy', 'fdbdfcb4c80755f3', 'firing', 'warning', '{"user_id": 101}', 'User 101: 3 transactions', '{"transactions": 3}', '{"transactions": 3}', 'COUNT(*) >= 3', '2016-11-29 20:54:45.512564+00', '2026-11-27 20:54:45.512564+00', '{"op": "c", "pk": {"id": 3}, "lsn": 22000408, "topic": "golden.streaming.transactions", "tx_id": 503, "offset": 1, "partition": 1, "event_time": "2026-11-20T08:10:00.000003Z", "committed_at": "2026-11-27T18:00:02.763123Z"}', '{"ms": 61, "as_of": "2026-11-27T20:54:45.512564Z", "attempts": 1, "required": true, "snapshot": "735:735:"}', '2026-11-27 20:54:45.573768+00', '2.0');
INSERT INTO tripline.alerts VALUES ('93baaee0-dfcb-5750-8a21-f0fddae177bc', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'busy', 'fdbdfcb4c80755f3', 'firing', 'warning', '{"user_id": 103}', 'User 103: 3 transactions', '{"transactions": 3}', '{"transactions": 3}', 'COUNT(*) >= 3', '2016-11-29 20:54:45.512564+00', '2026-11-27 20:54:45.512564+00', '{"op": "c", "pk": {"id": 7}, "lsn": 22000952, "topic": "golden.streaming.transactions", "tx_id": 507, "offset": 3, "partition": 1, "event_time": "2026-11-22T10:02:00.000007Z", "committed_at": "2026-11-27T18:00:06.767123Z"}', '{"ms": 61, "as_of": "2026-11-27T20:54:45.512564Z", "attempts": 1, "required": true, "snapshot": "735:735:"}', '2026-11-27 20:54:45.573768+00', '2.1');
INSERT INTO tripline.alerts VALUES ('8f2ead67-8fd6-5ae0-b175-4dc29e65933f', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 104}', 'User 104 ($3,000.01)', '{"total": "3000.01", "transactions": 1}', '{"total": "3000.01", "transactions": 1}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:54:47.520502+00', '2026-11-27 20:54:47.520502+00', '{"op": "u", "pk": {"id": 8}, "lsn": 22001768, "topic": "golden.streaming.transactions", "tx_id": 513, "offset": 6, "partition": 0, "event_time": "2026-11-23T11:00:00.000008Z", "committed_at": "2026-11-27T18:00:12.773123Z"}', '{"ms": 7, "as_of": "2026-11-27T20:54:47.520502Z", "attempts": 1, "required": true, "snapshot": "738:738:"}', '2026-11-27 20:54:47.52763+00', '3.0');
INSERT INTO tripline.alerts VALUES ('0c087d05-1e10-5020-ae33-1bd496d96bf4', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'weekly-spend', '18876e8a38a358a8', 'resolved', 'critical', '{"user_id": 105}', 'User 105 ($10.00)', '{"total": "10.00", "transactions": 1}', '{"total": "10.00", "transactions": 1}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:54:47.520502+00', '2026-11-27 20:54:47.520502+00', '{"op": "u", "pk": {"id": 9}, "lsn": 22002040, "topic": "golden.streaming.transactions", "tx_id": 515, "offset": 8, "partition": 1, "event_time": "2026-11-23T12:00:00.000009Z", "committed_at": "2026-11-27T18:00:15.776123Z"}', '{"ms": 7, "as_of": "2026-11-27T20:54:47.520502Z", "attempts": 1, "required": true, "snapshot": "738:738:"}', '2026-11-27 20:54:47.52763+00', '1.2');
INSERT INTO tripline.alerts VALUES ('47cddddd-769e-596d-b68e-09d8648f1ee3', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'busy', 'fdbdfcb4c80755f3', 'resolved', 'warning', '{"user_id": 103}', 'User 103: 2 transactions', '{"transactions": 2}', '{"transactions": 2}', 'COUNT(*) >= 3', '2016-11-29 20:54:47.520502+00', '2026-11-27 20:54:47.520502+00', '{"op": "d", "pk": {"id": 5}, "lsn": 22001904, "topic": "golden.streaming.transactions", "tx_id": 514, "offset": 6, "partition": 1, "event_time": null, "committed_at": "2026-11-27T18:00:13.774123Z"}', '{"ms": 41, "as_of": "2026-11-27T20:54:47.520502Z", "attempts": 1, "required": true, "snapshot": "738:738:"}', '2026-11-27 20:54:47.561933+00', '2.1');
INSERT INTO tripline.alerts VALUES ('85524b5c-4c21-55e3-a3c7-35c1996e9310', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'busy', 'fdbdfcb4c80755f3', 'firing', 'warning', '{"user_id": 106}', 'User 106: 3 transactions', '{"transactions": 3}', '{"transactions": 3}', 'COUNT(*) >= 3', '2016-11-29 20:54:47.520502+00', '2026-11-27 20:54:47.520502+00', '{"op": "c", "pk": {"id": 13}, "lsn": 22002176, "topic": "golden.streaming.transactions", "tx_id": 516, "offset": 9, "partition": 1, "event_time": "2026-11-25T14:00:00.000013Z", "committed_at": "2026-11-27T18:00:16.777123Z"}', '{"ms": 41, "as_of": "2026-11-27T20:54:47.520502Z", "attempts": 1, "required": true, "snapshot": "738:738:"}', '2026-11-27 20:54:47.561933+00', '4.0');
INSERT INTO tripline.alerts VALUES ('eed9bc34-690c-57e0-9df7-6a0d814b9d6a', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'weekly-spend', '18876e8a38a358a8', 'resolved', 'critical', '{"user_id": 101}', 'User 101 ($1,900.00)', '{"total": "1900.00", "transactions": 2}', '{"total": "1900.00", "transactions": 2}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:54:49.47268+00', '2026-11-27 20:54:49.47268+00', '{"op": "u", "pk": {"id": 2}, "lsn": 22002856, "topic": "golden.streaming.transactions", "tx_id": 521, "offset": 10, "partition": 0, "event_time": "2026-11-20T08:05:00.000002Z", "committed_at": "2026-11-27T18:00:22.783123Z"}', '{"ms": 7, "as_of": "2026-11-27T20:54:49.472680Z", "attempts": 1, "required": true, "snapshot": "742:742:"}', '2026-11-27 20:54:49.480005+00', '1.0');
INSERT INTO tripline.alerts VALUES ('af1739a3-6cda-522e-91c5-2ffc407f6741', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 105}', 'User 105 ($3,005.00)', '{"total": "3005.00", "transactions": 2}', '{"total": "3005.00", "transactions": 2}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:54:49.47268+00', '2026-11-27 20:54:49.47268+00', '{"op": "c", "pk": {"id": 16}, "lsn": 22002992, "topic": "golden.streaming.transactions", "tx_id": 522, "offset": 11, "partition": 0, "event_time": "2026-11-26T16:00:00.000016Z", "committed_at": "2026-11-27T18:00:23.784123Z"}', '{"ms": 7, "as_of": "2026-11-27T20:54:49.472680Z", "attempts": 1, "required": true, "snapshot": "742:742:"}', '2026-11-27 20:54:49.480005+00', '5.0');
INSERT INTO tripline.alerts VALUES ('3ff8fa7f-a227-5d52-88a3-b136f9801336', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'weekly-spend', '18876e8a38a358a8', 'firing', 'critical', '{"user_id": 108}', 'User 108 ($3,300.00)', '{"total": "3300.00", "transactions": 4}', '{"total": "3300.00", "transactions": 4}', 'SUM(ABS(amount)) > 3000', '2016-11-27 20:54:49.47268+00', '2026-11-27 20:54:49.47268+00', '{"op": "c", "pk": {"id": 20}, "lsn": 22003536, "topic": "golden.streaming.transactions", "tx_id": 526, "offset": 13, "partition": 0, "event_time": "2026-11-26T17:03:00.000020Z", "committed_at": "2026-11-27T18:00:27.788123Z"}', '{"ms": 7, "as_of": "2026-11-27T20:54:49.472680Z", "attempts": 1, "required": true, "snapshot": "742:742:"}', '2026-11-27 20:54:49.480005+00', '5.1');
INSERT INTO tripline.alerts VALUES ('26f659bb-e75b-5291-a37c-7bb49846d5a0', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'busy', 'fdbdfcb4c80755f3', 'resolved', 'warning', '{"user_id": 101}', 'User 101: 2 transactions', '{"transactions": 2}', '{"transactions": 2}', 'COUNT(*) >= 3', '2016-11-29 20:54:49.47268+00', '2026-11-27 20:54:49.47268+00', '{"op": "u", "pk": {"id": 2}, "lsn": 22002856, "topic": "golden.streaming.transactions", "tx_id": 521, "offset": 10, "partition": 0, "event_time": "2026-11-20T08:05:00.000002Z", "committed_at": "2026-11-27T18:00:22.783123Z"}', '{"ms": 48, "as_of": "2026-11-27T20:54:49.472680Z", "attempts": 1, "required": true, "snapshot": "743:743:"}', '2026-11-27 20:54:49.521196+00', '2.0');
INSERT INTO tripline.alerts VALUES ('ab453345-918e-5f58-a823-e484db1e27f2', 'golden-monitor', '01a21eca-0377-7472-8f8a-6ff8f413afc7', 'busy', 'fdbdfcb4c80755f3', 'firing', 'warning', '{"user_id": 108}', 'User 108: 4 transactions', '{"transactions": 4}', '{"transactions": 4}', 'COUNT(*) >= 3', '2016-11-29 20:54:49.47268+00', '2026-11-27 20:54:49.47268+00', '{"op": "c", "pk": {"id": 18}, "lsn": 22003264, "topic": "golden.streaming.transactions", "tx_id": 524, "offset": 12, "partition": 0, "event_time": "2026-11-26T17:01:00.000018Z", "committed_at": "2026-11-27T18:00:25.786123Z"}', '{"ms": 48, "as_of": "2026-11-27T20:54:49.472680Z", "attempts": 1, "required": true, "snapshot": "743:743:"}', '2026-11-27 20:54:49.521196+00', '6.0');


--
-- Data for Name: generations; Type: TABLE DATA; Schema: tripline; Owner: -
--

INSERT INTO tripline.generations VALUES ('golden-monitor', 1795812889331, 'vm:30925', '2026-11-27 20:54:49.330813+00');


--
-- Name: _sqlx_migrations _sqlx_migrations_pkey; Type: CONSTRAINT; Schema: tripline; Owner: -
--

ALTER TABLE ONLY tripline._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);


--
-- Name: alerts alerts_pkey; Type: CONSTRAINT; Schema: tripline; Owner: -
--

ALTER TABLE ONLY tripline.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);


--
-- Name: generations generations_pkey; Type: CONSTRAINT; Schema: tripline; Owner: -
--

ALTER TABLE ONLY tripline.generations
    ADD CONSTRAINT generations_pkey PRIMARY KEY ("group");


--
-- Name: alerts_by_key; Type: INDEX; Schema: tripline; Owner: -
--

CREATE INDEX alerts_by_key ON tripline.alerts USING gin (key);


--
-- Name: alerts_by_rule; Type: INDEX; Schema: tripline; Owner: -
--

CREATE INDEX alerts_by_rule ON tripline.alerts USING btree (rule, emitted_at DESC);


--
-- Name: alerts_by_time; Type: INDEX; Schema: tripline; Owner: -
--

CREATE INDEX alerts_by_time ON tripline.alerts USING btree (emitted_at DESC, id DESC);


--
-- PostgreSQL database dump complete
--


