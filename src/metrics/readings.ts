import { Counter, Gauge, Registry } from 'prom-client'

/** A metric of one value, or of one for each value of its label, out of what somebody else counts. */
export interface Family<R> {
  readonly name: string
  readonly help: string
  readonly label?: string
  /** By the value of the label; by '' where there is none. */
  readonly values: (readings: R) => Readonly<Record<string, number>>
}

/** What has been counted and what there is at present, read whenever the registry is rendered. */
export function readingsRegistry<R>(
  read: () => R,
  { counted, present }: { readonly counted: readonly Family<R>[]; readonly present: readonly Family<R>[] },
): Registry {
  const registry = new Registry()
  for (const family of counted) {
    const collect = function (this: Counter) {
      // Somebody else counts; here is only what it has come to.
      this.reset()
      for (const [labels, value] of samplesOf(family, read())) this.inc(labels, value)
    }
    registry.registerMetric(new Counter({ ...declared(family), collect }))
  }
  for (const family of present) {
    const collect = function (this: Gauge) {
      for (const [labels, value] of samplesOf(family, read())) this.set(labels, value)
    }
    registry.registerMetric(new Gauge({ ...declared(family), collect }))
  }
  return registry
}

function declared<R>({ name, help, label }: Family<R>) {
  return { name, help, labelNames: label === undefined ? [] : [label], registers: [] }
}

function samplesOf<R>({ label, values }: Family<R>, readings: R): [Record<string, string>, number][] {
  const samples = Object.entries(values(readings))
  return samples.map(([key, value]) => [label === undefined ? {} : { [label]: key }, value])
}
