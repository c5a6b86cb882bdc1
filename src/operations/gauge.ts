/** A figure that is asked for at the moment of a scrape. */
import { Gauge, type Registry } from 'prom-client'

export type AddGauge = (name: string, help: string, read: () => number | undefined) => void

/** @returns adds one to this registry. What reads undefined is left out: nothing is better than a zero that nobody counted. */
export function gaugesOf(registry: Registry): AddGauge {
  return (name, help, read) => {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        const value = read()
        if (value === undefined) this.remove()
        else this.set(value)
      },
    })
  }
}
