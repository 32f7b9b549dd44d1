import { test } from 'node:test'
import { expectPage } from '../support/page.js'
import { readmeFile, withTables } from '../support/readme.js'

test('README.md lists every call and every flag as they are', () => expectPage(readmeFile, withTables))
