# shellcheck shell=bash
# Read by scripts/insert-transactions and scripts/insert-test-orders: their options, and how they reach the database.
# Before read_options, the script sets the defaults of `database` and `count`, and defines usage().

me=$(basename -- "$0")
host=${STACK_HOST:-127.0.0.1}
port=${STACK_PG_PORT:-15432}
user=postgres
password=
seed=
users=

misused() { printf '%s\n' "$me: $*" "try: $me --help" >&2; exit 2; }

# number OPTION VALUE MIN MAX: prints the value, without leading zeros
number() {
  [[ $2 =~ ^[0-9]{1,15}$ ]] || misused "$1 needs a whole number, not '$2'"
  local value=$((10#$2))
  if ((value < $3 || value > $4)); then misused "$1 must be from $3 to $4, not $2"; fi
  printf '%s' "$value"
}

# read_options "EXTRA OPTION..." ARG...
read_options() {
  local extra=$1 option value
  shift
  while [ $# -gt 0 ]; do
    option=$1
    shift
    if [ "$option" = --help ] || [ "$option" = -h ]; then usage; exit 0; fi
    case $option in
      --host | --port | --database | --user | --password | --count | --seed | --users)
        [ $# -gt 0 ] || misused "$option needs a value"
        value=$1
        shift
        ;;
      --*=*)
        value=${option#*=}
        option=${option%%=*}
        ;;
      *) misused "unknown option: $option" ;;
    esac
    case $option in
      --host) host=$value ;;
      --port) port=$value ;;
      --database) database=$value ;;
      --user) user=$value ;;
      --password) password=$value ;;
      --count) count=$value ;;
      --seed) seed=$value ;;
      *)
        [[ " $extra " == *" $option "* ]] || misused "unknown option: $option"
        users=$value
        ;;
    esac
  done
  port=$(number --port "$port" 1 65535)
  count=$(number --count "$count" 1 1000000)
  if [ -n "$seed" ]; then seed=$(number --seed "$seed" 0 999999999999999); fi
  if [ -n "$users" ]; then users=$(number --users "$users" 1 90000000); fi
}

# insert WHAT TABLE [PSQL VARIABLE...]: runs the INSERT on its standard input and prints how many rows it made.
# The password travels in the environment, where other users of the machine cannot see it.
insert() {
  local what=$1 table=$2 variables=() variable rows
  shift 2
  for variable in "$@"; do variables+=(-v "$variable"); done
  command -v psql >/dev/null || { printf '%s\n' "$me: psql is not installed" >&2; exit 1; }
  if [ -n "$password" ]; then export PGPASSWORD=$password; fi
  rows=$(
    {
      # random() in the statement below then always gives the same row of numbers
      if [ -n "$seed" ]; then printf '%s\n' '\o /dev/null' "SELECT setseed((:seed % 1000003) / 1000003.0);" '\o'; fi
      cat
      # shellcheck disable=SC2028 # a command of psql
      echo '\echo :ROW_COUNT'
    } | PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-10} psql -X -q -w -At -v ON_ERROR_STOP=1 -v count="$count" -v seed="$seed" \
      "${variables[@]}" -h "$host" -p "$port" -U "$user" -d "$database" -f -
  ) || exit 1
  printf '%s\n' "inserted $rows $what into $table (database $database at $host:$port)"
}
