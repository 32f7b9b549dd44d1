import { test } from 'node:test'
import { apiFile, apiPage } from '../support/api-doc.js'
import { expectPage } from '../support/page.js'

test('docs/api.md tells the contract as it is', () => expectPage(apiFile, apiPage))
