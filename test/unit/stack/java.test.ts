import { expect, test } from 'vitest';
import { elasticsearchFor, type Jdk, jdkFor, parseJavaVersion } from '../../../stack/java.ts';
import { ELASTICSEARCH, KAFKA } from '../../../stack/versions.ts';

const jdk = (major: number): Jdk => ({ home: `/jdk-${major}`, major, version: `${major}.0.1` });

test.each([
  ['openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', { major: 17, version: '17.0.15' }],
  ['openjdk version "25" 2025-09-16 LTS', { major: 25, version: '25' }],
  ['Picked up JAVA_TOOL_OPTIONS: -Dx=1\njava version "1.8.0_402"', { major: 8, version: '1.8.0_402' }],
  ['openjdk version "26-ea" 2026-03-17', { major: 26, version: '26-ea' }],
  ['The operation couldn’t be completed. Unable to locate a Java Runtime.', undefined],
])('reads the Java version out of %j', (text, expected) => {
  expect(parseJavaVersion(text)).toEqual(expected);
});

test('auto takes the newest Elasticsearch the installed Java runs; a line asked for by name is not replaced', () => {
  expect(elasticsearchFor('auto', [jdk(25), jdk(17)])).toBe(ELASTICSEARCH['9']);
  expect(elasticsearchFor('auto', [jdk(17)])).toBe(ELASTICSEARCH['8']);
  expect(elasticsearchFor('9', [jdk(17)])).toBe(ELASTICSEARCH['9']);
});

test('a server gets the newest JDK, or an error that names what there is and how to get what is missing', () => {
  expect(jdkFor(KAFKA, [jdk(25), jdk(17)]).major).toBe(25);
  expect(() => jdkFor(ELASTICSEARCH['9'], [jdk(17), jdk(11)])).toThrow(
    /9\.\S+ needs a JDK 21 or newer; found: 17\.0\.1, 11\.0\.1\. To install: /,
  );
  expect(() => jdkFor(KAFKA, [])).toThrow(/kafka 4\.\S+ needs a JDK 17 or newer; found: none/);
});
