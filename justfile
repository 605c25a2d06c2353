# What a developer types most. `just` lists it.

_default:
    @just --list

# Everything that CI runs
test *ARGS:
    scripts/test {{ARGS}}

# Without servers
quick:
    scripts/test --quick

# PostgreSQL, Kafka and Debezium on loopback
up:
    scripts/stack up

down:
    scripts/stack down

# 1,000,000 events through one run
bench:
    scripts/bench

# 1,000,000 rows written as Parquet, beside pyarrow
bench-archive:
    scripts/bench-archive

fmt:
    cargo fmt
