-- versions of the migrations that have been applied.
select version from tripline._sqlx_migrations where success order by version
