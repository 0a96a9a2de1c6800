#!/usr/bin/env bash
# Checks the packaged alert rules with promtool, runs their unit tests, and reads the dashboard as JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../keevo-server/packaging"

if ! command -v promtool >/dev/null 2>&1; then
    echo "promtool: it is not installed; 'make promtool' installs it where apt-get can" >&2
    exit 1
fi
promtool check rules prometheus/keevo-alerts.yml
(cd prometheus && promtool test rules keevo-alerts-test.yml)
panels=$(jq '[.panels[] | select(.type != "row")] | length' grafana/keevo.json)
echo "the dashboard has $panels panels"
