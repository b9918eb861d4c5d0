import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { BrowserAutomation } from './browser-automation.tsx';
import './style.css';

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <BrowserAutomation />
  </StrictMode>,
);
