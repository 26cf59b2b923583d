#!/usr/bin/env bash
# Scores the worklist of one night, and writes its results and its report.
#
#     NODULESERVE_HOME=/var/lib/noduleserve night.sh --server 127.0.0.1:8001 --root /srv/ct
#
# The arguments go to `noduleserve score`. Settings, from the environment:
#     NODULESERVE_HOME    folder with worklists/DATE.csv; nights/DATE/ and screening.sqlite are written into it
#     NODULESERVE_NIGHT   DATE, as YYYY-MM-DD; default: the night that is going on, which lasts from noon to noon
#     NODULESERVE_UNTIL   HH:MM of the morning when the night ends, finished or not; default: never
#     NODULESERVE_KEEP    days after which a night's journal is deleted; default: never
#
# Exit status: 0 all scored; 3 some failed; 124 not finished by NODULESERVE_UNTIL; 2 wrong usage; all else: run again.
set -euo pipefail
umask 077

home=${NODULESERVE_HOME:-}
if [[ ! -d $home ]]; then
    echo "night.sh: NODULESERVE_HOME is no folder" >&2
    exit 2
fi
# Not today's date: a night that is taken up again after midnight is still last evening's.
night=${NODULESERVE_NIGHT:-$(date -d '12 hours ago' +%F)}
worklist=$home/worklists/$night.csv
folder=$home/nights/$night
journal=$folder/night.journal
mkdir -p "$folder"

within=()
if [[ -n ${NODULESERVE_UNTIL:-} ]]; then
    left=$(($(date -d "$night $NODULESERVE_UNTIL tomorrow" +%s) - $(date +%s)))
    if ((left <= 0)); then
        echo "night.sh: the night of $night was over at $NODULESERVE_UNTIL" >&2
        exit 124
    fi
    within=(timeout --kill-after=60 "$left")
fi

status=0
"${within[@]}" noduleserve score "$worklist" --journal "$journal" \
    --out "$folder/results.csv" --out "$home/screening.sqlite" --log json "$@" || status=$?

# The report of a night that broke off says which rows have no outcome.
if [[ -f $journal ]]; then
    reported=0
    noduleserve report "$journal" --out "$folder/report.html" --worklist "$worklist" || reported=$?
    if ((reported != 0 && reported != 3 && (status == 0 || status == 3))); then
        status=1
    fi
fi

if [[ -n ${NODULESERVE_KEEP:-} ]] && ((status == 0 || status == 3)); then
    find "$home/nights" -mindepth 2 -maxdepth 2 -type f -name 'night.journal*' -mtime "+$NODULESERVE_KEEP" -delete
fi
exit "$status"
