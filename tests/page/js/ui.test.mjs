import assert from 'node:assert/strict';
import { test } from 'node:test';
import { html } from '../../../sdk/http/page/ui.js';

test('an element is made anew each time: one that is kept would keep the tree it was in', () => {
  const make = () => html`<p><b>still</b></p>`;
  assert.notEqual(make(), make());
  assert.notEqual(make().props.children, make().props.children);
});
