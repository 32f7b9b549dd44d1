import { readFileSync } from 'node:fs'
import { checkout } from './readme.js'

interface Dashboard {
  readonly panels: readonly { readonly title: string; readonly targets?: readonly { readonly expr: string }[] }[]
  readonly templating: { readonly list: readonly { readonly type: string; readonly definition?: string }[] }
}

/** Every query of deploy/grafana-dashboard.json, as Grafana would send it. */
export function dashboardQueries(): readonly string[] {
  const file = new URL('deploy/grafana-dashboard.json', checkout)
  const { panels, templating } = JSON.parse(readFileSync(file, 'utf8')) as Dashboard
  const variables = templating.list.flatMap(({ definition }) => {
    const [, metric, label] = /^label_values\((.+), (\w+)\)$/.exec(definition ?? '') ?? []
    return metric === undefined ? [] : [`count by (${label}) (${metric})`]
  })
  const shown = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
  return [...variables, ...shown].map(query =>
    query.replaceAll('$__rate_interval', '1m').replaceAll(/\$(instance|bridge)/g, '.*'),
  )
}
