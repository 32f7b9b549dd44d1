import { Disposables } from '../../src/lib/disposables.js'
import { createNamespace, enterNamespace, type Namespace, type TestNamespace } from './namespace.js'
import { type PrivateOvs, startPrivateOvs } from './ovs.js'

/** A test's world: a namespace for its main thread, an Open vSwitch in it, and all that it adds. */
export interface Testbed extends AsyncDisposable {
  readonly namespace: TestNamespace
  readonly ovs: PrivateOvs
  /** A namespace that stands for a container. */
  createContainer(label?: string): Namespace
  /** Disposes `resource` at the end of the test, the latest first, before Open vSwitch and the namespaces go. */
  use<T extends Disposable | AsyncDisposable>(resource: T): T
}

/** Enters a fresh namespace and starts Open vSwitch in it; disposing undoes everything, also when the test failed. */
export async function startTestbed(signal: AbortSignal): Promise<Testbed> {
  const resources = new Disposables()
  const namespace = resources.use(enterNamespace())
  try {
    const ovs = resources.use(await startPrivateOvs(signal))
    return {
      namespace,
      ovs,
      use: resource => resources.use(resource),
      createContainer: label => resources.use(createNamespace(label)),
      [Symbol.asyncDispose]: () => resources[Symbol.asyncDispose](),
    }
  } catch (error) {
    await resources[Symbol.asyncDispose]()
    throw error
  }
}
