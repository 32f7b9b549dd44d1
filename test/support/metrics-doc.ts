import { table } from './page.js'
import { checkout } from './readme.js'

export const metricsFile = new URL('docs/metrics.md', checkout)

/** What a page in Prometheus' text format with a sample of every family says of ours, as Markdown. */
export function metricsPage(exposed: string): string {
  const families = exposed.split(/^# HELP /m).filter(text => text.startsWith('ovs_bridged_'))
  return `# Metrics

At \`--metrics-listen\`. Beside these are those of the process (\`process_*\`) and of Node.js (\`nodejs_*\`). A histogram
has \`_bucket\`, \`_sum\` and \`_count\`. \`OVS_BRIDGED_WRITE_DOCS=1 scripts/check --lane unit\` writes this page anew.

${table(['Metric', 'Type', 'Labels', 'What it tells'], families.map(rowOf))}`
}

function rowOf(family: string): readonly string[] {
  const [, name = '', help = '', type = '', sample = ''] = /^(\S+) (.*)\n# TYPE \S+ (\w+)\n(.*)$/m.exec(family) ?? []
  if (!sample.startsWith(name)) throw new Error(`no sample that tells the labels of ${family}`)
  const labels = [...sample.matchAll(/(\w+)="/g)].map(([, label = '']) => label).filter(label => label !== 'le')
  return [`\`${name}\``, type, labels.map(label => `\`${label}\``).join(', '), help]
}
